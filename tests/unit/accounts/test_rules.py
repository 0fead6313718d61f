"""Checks the rules of a user without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from accounts.domain import user as rules
from accounts.domain.commands import RegisterUser, UpdateUser
from accounts.domain.errors import (
    CreditLimitBelowReserved,
    StaffOnly,
    StaleVersion,
    UserInactive,
)
from accounts.domain.events import RefusalReason, UserDeactivated, UserUpdated
from accounts.domain.state import UserState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ADA = UserState(
    id=UUID(int=1),
    name="Ada",
    email="ada@example.com",
    credit_limit=Decimal("1000.00"),
    credit_reserved=Decimal("400.00"),
    is_staff=False,
    is_active=True,
    version=3,
    created_at=NOW,
    updated_at=NOW,
)


def change(user: UserState = ADA, *, by_staff: bool = True, version: int | None = 3, **more: Any):
    command = UpdateUser(user_id=user.id, expected_version=version, by_staff=by_staff, **more)
    return rules.revise(user, command, now=LATER)


def test_a_registered_user_starts_at_version_one_with_nothing_reserved() -> None:
    command = RegisterUser(name="Ada", email="ada@example.com", password="secret")
    user = rules.register(command, now=NOW).user
    assert (user.version, user.credit_reserved, user.is_active) == (1, Decimal("0.00"), True)
    assert (user.credit_limit, user.created_at, user.updated_at) == (Decimal("1000.00"), NOW, NOW)
    assert user.id == command.user_id
    assert user.id.version == 7


def test_a_change_raises_the_version_and_names_the_changed_fields() -> None:
    event = change(name="Ada L.", credit_limit=Decimal(500))
    assert isinstance(event, UserUpdated)
    assert event.changed == ("name", "credit_limit")
    assert event.user == replace(
        ADA, name="Ada L.", credit_limit=Decimal("500.00"), version=4, updated_at=LATER
    )


def test_equal_values_are_no_change() -> None:
    same = {"name": ADA.name, "email": ADA.email, "credit_limit": Decimal(1000), "is_active": True}
    assert change(**same) is None
    assert change(**same, by_staff=False) is None


def test_a_new_password_alone_is_a_change() -> None:
    event = change(password="another secret")
    assert isinstance(event, UserUpdated)
    assert event.changed == ("password",)
    assert event.user.version == 4


def test_the_repr_of_a_command_omits_the_password() -> None:
    update = UpdateUser(user_id=ADA.id, expected_version=1, by_staff=False, password="s3cret")
    assert "s3cret" not in repr(update)
    assert "s3cret" not in repr(RegisterUser(name="a", email="b", password="s3cret"))


@pytest.mark.parametrize("version", [2, 4])
def test_a_change_based_on_another_version_is_refused(version: int) -> None:
    with pytest.raises(StaleVersion) as caught:
        change(version=version, name="Eve")
    assert (caught.value.expected, caught.value.found) == (version, 3)
    assert caught.value.extras == {"expected_version": version, "current_version": 3}


def test_a_stale_version_is_refused_even_without_a_change() -> None:
    with pytest.raises(StaleVersion):
        change(version=2)


def test_without_an_expected_version_any_version_is_accepted() -> None:
    assert change(version=None, name="Eve").user.version == 4


@pytest.mark.parametrize(
    "field", [{"credit_limit": Decimal(9999)}, {"is_staff": True}, {"is_active": False}]
)
def test_only_staff_may_set_staff_only_fields(field: dict[str, Any]) -> None:
    with pytest.raises(StaffOnly) as caught:
        change(by_staff=False, **field)
    assert caught.value.fields == tuple(field)
    assert change(by_staff=True, **field) is not None


def test_a_deactivated_user_cannot_change_itself() -> None:
    gone = replace(ADA, is_active=False)
    with pytest.raises(UserInactive):
        change(gone, by_staff=False, name="Eve")
    assert isinstance(change(gone, name="Eve"), UserUpdated)


def test_deactivation_and_reactivation_are_different_events() -> None:
    assert isinstance(change(is_active=False, name="Gone"), UserDeactivated)
    assert isinstance(change(replace(ADA, is_active=False), is_active=True), UserUpdated)
    assert change(replace(ADA, is_active=False), is_active=False) is None


def test_the_lowest_limit_is_the_reserved_credit() -> None:
    assert change(credit_limit=Decimal("400.00")).user.credit_limit == Decimal("400.00")
    with pytest.raises(CreditLimitBelowReserved) as caught:
        change(credit_limit=Decimal("399.99"))
    assert caught.value.extras == {"credit_limit": "399.99", "credit_reserved": "400.00"}


def test_the_time_of_a_user_never_goes_back() -> None:
    ahead = replace(ADA, updated_at=LATER + timedelta(minutes=1))
    assert change(ahead, name="Eve").user.updated_at == ahead.updated_at


@pytest.mark.parametrize(
    ("user", "amount", "reason"),
    [
        (ADA, "600.00", None),
        (ADA, "600.01", RefusalReason.INSUFFICIENT_CREDIT),
        (replace(ADA, is_active=False), "0.01", RefusalReason.INACTIVE_USER),
        (None, "0.01", RefusalReason.UNKNOWN_USER),
    ],
)
def test_credit_is_refused_for_a_reason(
    user: UserState | None, amount: str, reason: RefusalReason | None
) -> None:
    assert rules.refusal(user, amount=Decimal(amount)) is reason


@pytest.mark.parametrize(("given", "kept"), [("5", "5.00"), ("-0", "0.00"), ("1E+2", "100.00")])
def test_amounts_have_two_decimal_places(given: str, kept: str) -> None:
    assert str(rules.two_places(Decimal(given))) == kept
