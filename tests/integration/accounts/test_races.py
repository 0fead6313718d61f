"""With two concurrent connections, the limit holds and each change takes effect once."""

from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from accounts import handlers
from accounts.domain.commands import (
    DeactivateUser,
    RegisterUser,
    ReleaseCredit,
    ReserveCredit,
    UpdateUser,
)
from accounts.domain.errors import CreditLimitBelowReserved, EmailTaken, StaleVersion
from accounts.domain.events import CreditRefused, CreditReleased, CreditReserved, RefusalReason
from accounts.domain.state import UserState
from accounts.handlers import (
    deactivate_user,
    register_user,
    release_credit,
    reserve_credit,
    update_user,
)
from accounts.models import OutboxEvent, Reservation, User
from outbox.testing import recorded
from tests.integration.accounts.conftest import PASSWORD
from tests.integration.accounts.racing import in_turn, outcome, together

pytestmark = pytest.mark.django_db(transaction=True)  # threads see only committed rows


def reserve(user: UserState, amount: str, order: int) -> Any:
    return reserve_credit(
        ReserveCredit(order_id=UUID(int=order), user_id=user.id, amount=Decimal(amount))
    )


def release(order: int) -> Any:
    return release_credit(ReleaseCredit(order_id=UUID(int=order)))


def rename(user: UserState, name: str) -> UserState:
    return update_user(
        UpdateUser(user_id=user.id, expected_version=user.version, by_staff=False, name=name)
    )


def kinds(results: list[Any]) -> list[str]:
    return sorted(type(result).__name__ for result in results)


def test_only_one_of_two_orders_reserves_the_last_credit(ada: UserState) -> None:
    for round_ in range(10):
        results = together(
            lambda: reserve(ada, "600.00", 2 * round_ + 1),  # noqa: B023
            lambda: reserve(ada, "600.00", 2 * round_ + 2),  # noqa: B023
        )
        assert kinds(results) == ["CreditRefused", "CreditReserved"]
        assert User.objects.get().credit_reserved == Decimal("600.00")
        [winner] = [result for result in results if isinstance(result, CreditReserved)]
        release(winner.order_id.int)


def test_a_second_order_waits_for_and_sees_the_first_reservation(ada: UserState) -> None:
    first, second = in_turn(lambda: reserve(ada, "600.00", 1), lambda: reserve(ada, "600.00", 2))
    assert isinstance(first, CreditReserved)
    assert isinstance(second, CreditRefused)
    assert second.user is not None
    assert second.user.credit_reserved == Decimal("600.00")


def test_concurrent_reserves_of_one_order_take_effect_once(ada: UserState) -> None:
    for order in range(1, 6):
        results = together(*[lambda: reserve(ada, "10.00", order)] * 2)  # noqa: B023
        assert kinds(results) == ["CreditReserved", "NoneType"]
    assert User.objects.get().credit_reserved == Decimal("50.00")


def test_a_release_waits_for_an_open_reserve(ada: UserState) -> None:
    _, released = in_turn(lambda: reserve(ada, "10.00", 1), lambda: release(1))
    assert isinstance(released, CreditReleased)
    assert User.objects.get().credit_reserved == 0


def test_a_reserve_waits_for_an_open_release_and_is_refused(ada: UserState) -> None:
    _, refused = in_turn(lambda: release(1), lambda: reserve(ada, "10.00", 1))
    assert isinstance(refused, CreditRefused)
    assert refused.reason is RefusalReason.ORDER_ENDED


def test_concurrent_releases_of_one_order_take_effect_once(ada: UserState) -> None:
    for order in range(1, 6):
        reserve(ada, "10.00", order)
        assert kinds(together(*[lambda: release(order)] * 2)) == [  # noqa: B023
            "CreditReleased",
            "NoneType",
        ]
    assert User.objects.get().credit_reserved == 0


def test_a_reserve_uses_credit_that_is_released_while_it_runs(
    ada: UserState,
) -> None:
    reserve(ada, "1000.00", 1)
    locked = handlers._lock_user

    def release_then_lock(user_id: UUID) -> UserState | None:
        with patch.object(handlers, "_lock_user", locked):
            together(lambda: release(1))
        return locked(user_id)

    with patch.object(handlers, "_lock_user", release_then_lock):
        event = reserve(ada, "1000.00", 2)
    assert isinstance(event, CreditReserved)
    assert User.objects.get().credit_reserved == Decimal("1000.00")


def test_a_reserve_waits_for_an_open_deactivation_and_is_refused(ada: UserState) -> None:
    _, refused = in_turn(
        lambda: deactivate_user(DeactivateUser(user_id=ada.id)),
        lambda: reserve(ada, "10.00", 1),
    )
    assert isinstance(refused, CreditRefused)
    assert refused.reason is RefusalReason.INACTIVE_USER


def test_a_lower_limit_waits_for_an_open_reserve_and_is_refused(ada: UserState) -> None:
    lower = UpdateUser(
        user_id=ada.id, expected_version=None, by_staff=True, credit_limit=Decimal("5.00")
    )
    _, error = in_turn(
        lambda: reserve(ada, "10.00", 1), lambda: outcome(lambda: update_user(lower))
    )
    assert isinstance(error, CreditLimitBelowReserved)


def test_the_second_of_two_changes_to_one_version_is_stale(ada: UserState) -> None:
    _, error = in_turn(lambda: rename(ada, "one"), lambda: outcome(lambda: rename(ada, "two")))
    assert isinstance(error, StaleVersion)
    assert (error.expected, error.found) == (1, 2)
    assert User.objects.get().name == "one"


def test_the_second_of_two_registrations_of_one_email_is_refused() -> None:
    def join(email: str) -> UserState:
        return register_user(RegisterUser(name="x", email=email, password=PASSWORD))

    _, error = in_turn(
        lambda: join("x@example.com"), lambda: outcome(lambda: join("X@example.com"))
    )
    assert isinstance(error, EmailTaken)
    assert (User.objects.count(), len(recorded(OutboxEvent))) == (1, 1)


def test_events_of_one_user_are_recorded_in_version_order(ada: UserState) -> None:
    def orders(first: int) -> None:
        for order in range(first, first + 15):
            reserve(ada, "1.00", order)
            if order % 3 == 0:
                release(order)

    failures = together(*[lambda n=n: orders(100 * n) for n in (1, 2, 3, 4)])
    assert failures == [None] * 4
    sequences = [event.sequence for event in recorded(OutboxEvent)]
    assert sequences == list(range(1, 1 + 1 + 60 + 20))
    held = Reservation.objects.filter(status="RESERVED").count()
    assert User.objects.get().credit_reserved == held == 40
