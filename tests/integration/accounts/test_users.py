"""A change of a user writes the row, history and event together, or writes nothing."""

from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.contrib.auth.hashers import check_password
from django.db import IntegrityError, ProgrammingError

from accounts import handlers
from accounts.domain.commands import DeactivateUser, RegisterUser, ReserveCredit, UpdateUser
from accounts.domain.errors import (
    CreditLimitBelowReserved,
    EmailTaken,
    StaleVersion,
    UserNotFound,
    WeakPassword,
)
from accounts.domain.state import UserState
from accounts.handlers import deactivate_user, register_user, reserve_credit, update_user
from accounts.models import OutboxEvent, User, UserHistory
from accounts.published import representation
from outbox.testing import recorded
from tests.integration.accounts.conftest import PASSWORD, Register

# A refused command rolls back its transaction, so no test may run in a transaction.
pytestmark = pytest.mark.django_db(transaction=True)


def change(user: UserState, **given: Any) -> UserState:
    fields = {"expected_version": user.version, "by_staff": True} | given
    return update_user(UpdateUser(user_id=user.id, **fields))


def test_a_registration_writes_row_history_and_event(ada: UserState) -> None:
    row = User.objects.get()
    assert row.state() == ada
    assert check_password(PASSWORD, row.password)
    [event] = recorded(OutboxEvent)
    assert event.type == "accounts.user.registered.v1"
    assert event.data == representation(ada)
    assert (event.subject, event.partitionkey, event.sequence) == (str(ada.id), str(ada.id), 1)
    [past] = UserHistory.objects.all()
    assert (past.version, past.event, past.recorded_at) == (1, "UserRegistered", ada.created_at)
    assert past.data == {**representation(ada), "is_staff": False, "changed": []}


def test_a_change_writes_row_history_and_event(ada: UserState) -> None:
    after = change(ada, name="Ada L.", password="another good one", credit_limit=Decimal(5))
    row = User.objects.get()
    assert row.state() == after
    assert check_password("another good one", row.password)
    assert (after.version, after.credit_limit) == (2, Decimal("5.00"))
    assert [event.type for event in recorded(OutboxEvent)][1:] == ["accounts.user.updated.v1"]
    assert recorded(OutboxEvent)[-1].data == representation(after)
    past = UserHistory.objects.get(version=2)
    assert past.data["changed"] == ["name", "credit_limit", "password"]


def test_history_and_events_contain_no_password_or_hash(ada: UserState) -> None:
    change(ada, password="another good one")
    written = [str(row.data) for row in UserHistory.objects.all()]
    written += OutboxEvent.objects.values_list("body", flat=True)
    for text in written:
        assert "another good one" not in text
        assert User.objects.get().password not in text


def test_an_update_with_equal_values_writes_nothing(ada: UserState) -> None:
    assert change(ada, name=ada.name, email=ada.email) == ada
    assert (UserHistory.objects.count(), len(recorded(OutboxEvent))) == (1, 1)


def test_a_stale_change_is_refused_and_writes_nothing(ada: UserState) -> None:
    change(ada, name="first")
    with pytest.raises(StaleVersion) as caught:
        change(ada, name="second")
    assert (caught.value.expected, caught.value.found) == (1, 2)
    assert User.objects.get().name == "first"
    assert len(recorded(OutboxEvent)) == 2


def test_an_email_belongs_to_one_user_in_any_letter_case(
    ada: UserState, register: Register
) -> None:
    with pytest.raises(EmailTaken):
        register(email="ADA@EXAMPLE.COM")
    other = register()
    with pytest.raises(EmailTaken):
        change(other, email="aDa@example.com")
    assert change(ada, email="ADA@example.com").email == "ADA@example.com"


def test_a_weak_password_is_refused_with_its_reasons(ada: UserState) -> None:
    for command in (
        lambda: register_user(RegisterUser(name="x", email="x@example.com", password="12345")),
        lambda: change(ada, password="12345"),
        lambda: change(ada, password=ada.email),
    ):
        with pytest.raises(WeakPassword) as caught:
            command()
        assert caught.value.extras["errors"]["password"]
    assert User.objects.count() == 1


def test_an_unknown_user_cannot_be_changed() -> None:
    for password in (None, PASSWORD):
        with pytest.raises(UserNotFound):
            update_user(
                UpdateUser(
                    user_id=UUID(int=9), expected_version=1, by_staff=True, password=password
                )
            )
    with pytest.raises(UserNotFound):
        deactivate_user(DeactivateUser(user_id=UUID(int=9)))


def test_a_deactivation_is_announced_once(ada: UserState) -> None:
    first = deactivate_user(DeactivateUser(user_id=ada.id))
    again = deactivate_user(DeactivateUser(user_id=ada.id))
    assert first == again
    assert (first.is_active, first.version) == (False, 2)
    types = [event.type for event in recorded(OutboxEvent)]
    assert types == ["accounts.user.registered.v1", "accounts.user.deactivated.v1"]


def test_the_limit_cannot_fall_below_the_reserved_credit(ada: UserState) -> None:
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal("300.00")))
    with pytest.raises(CreditLimitBelowReserved):
        change(ada, expected_version=2, credit_limit=Decimal("299.99"))
    assert change(ada, expected_version=2, credit_limit=Decimal("300.00")).version == 3


@pytest.mark.parametrize("broken", ["record", "_announce"])
def test_a_failure_after_the_write_leaves_neither_row_nor_event(
    ada: UserState, broken: str
) -> None:
    with patch.object(handlers, broken, side_effect=RuntimeError("simulated failure")):
        with pytest.raises(RuntimeError):
            change(ada, name="half")
        with pytest.raises(RuntimeError):
            register_user(RegisterUser(name="x", email="x@example.com", password=PASSWORD))
        with pytest.raises(RuntimeError):
            reserve_credit(
                ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal("1.00"))
            )
    assert [user.state() for user in User.objects.all()] == [ada]
    assert UserHistory.objects.count() == 1
    assert len(recorded(OutboxEvent)) == 1


def test_the_row_is_written_before_the_event_is_recorded(ada: UserState) -> None:
    # This order makes the ids of one user's events rise in the order of the commits.
    seen = []

    def look(envelope: Any, *, into: Any) -> int:
        seen.append((envelope.sequence, User.objects.get(pk=envelope.partitionkey).version))
        return 0

    with patch.object(handlers, "record", look):
        change(ada, name="x")
        reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    assert seen == [(2, 2), (3, 3)]


def test_the_service_role_cannot_change_or_delete_history(ada: UserState) -> None:
    rows = UserHistory.objects.all()
    with pytest.raises(ProgrammingError, match="permission denied"):
        rows.update(event="Forged")
    with pytest.raises(ProgrammingError, match="permission denied"):
        rows._raw_delete(rows.db)


def test_a_database_constraint_keeps_reserved_credit_within_the_limit(ada: UserState) -> None:
    for values in ({"credit_reserved": -1}, {"credit_limit": 0, "credit_reserved": 1}):
        with pytest.raises(IntegrityError, match="accounts_reserved_within_limit"):
            User.objects.update(**values)
