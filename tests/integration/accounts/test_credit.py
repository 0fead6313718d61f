"""Each reserve and each release of credit takes effect once, in any order of arrival."""

from decimal import Decimal
from uuid import UUID, uuid4

from pytest_django import DjangoAssertNumQueries

from accounts.domain.commands import DeactivateUser, ReleaseCredit, ReserveCredit
from accounts.domain.events import CreditRefused, CreditReleased, CreditReserved, RefusalReason
from accounts.domain.state import UserState
from accounts.handlers import deactivate_user, release_credit, reserve_credit
from accounts.models import OutboxEvent, Reservation, User, UserHistory
from outbox.testing import recorded
from tests.integration.accounts.conftest import Register

ORDER = UUID(int=77)


def reserve(user_id: UUID, amount: str, order_id: UUID = ORDER):
    return reserve_credit(ReserveCredit(order_id=order_id, user_id=user_id, amount=Decimal(amount)))


def release(order_id: UUID = ORDER):
    return release_credit(ReleaseCredit(order_id=order_id))


def reserved(user: UserState) -> Decimal:
    return User.objects.get(pk=user.id).credit_reserved


def announced_types() -> list[str]:
    return [event.type.split(".", 1)[1] for event in recorded(OutboxEvent)]


def test_a_reservation_raises_the_version_and_is_announced(ada: UserState) -> None:
    event = reserve(ada.id, "12.30")
    assert isinstance(event, CreditReserved)
    row = User.objects.get(pk=ada.id)
    assert row.state() == event.user
    assert (row.credit_reserved, row.version) == (Decimal("12.30"), 2)
    envelope = recorded(OutboxEvent)[-1]
    assert (envelope.type, envelope.sequence) == ("accounts.credit.reserved.v1", 2)
    assert envelope.partitionkey == envelope.subject == str(ada.id)
    assert envelope.data == {
        "order_id": str(ORDER),
        "user_id": str(ada.id),
        "amount": "12.30",
        "reason": "",
        "credit_limit": "1000.00",
        "credit_reserved": "12.30",
        "version": 2,
    }
    past = UserHistory.objects.get(version=2)
    assert past.event == "CreditReserved"
    assert (past.data["order_id"], past.data["amount"]) == (str(ORDER), "12.30")
    assert Reservation.objects.get().status == "RESERVED"


def test_an_order_can_reserve_the_whole_limit_and_no_more(ada: UserState) -> None:
    assert isinstance(reserve(ada.id, "1000.00", UUID(int=1)), CreditReserved)
    refused = reserve(ada.id, "0.01", UUID(int=2))
    assert isinstance(refused, CreditRefused)
    assert refused.reason is RefusalReason.INSUFFICIENT_CREDIT
    assert reserved(ada) == Decimal("1000.00")
    data = recorded(OutboxEvent)[-1].data
    assert (data["reason"], data["credit_reserved"], data["version"]) == (
        "insufficient_credit",
        "1000.00",
        2,
    )


def test_a_refusal_leaves_the_user_unchanged(ada: UserState) -> None:
    reserve(ada.id, "1000.01")
    assert User.objects.get(pk=ada.id).state() == ada
    assert UserHistory.objects.count() == 1
    assert Reservation.objects.get().status == "REFUSED"
    assert announced_types() == ["user.registered.v1", "credit.refused.v1"]


def test_an_unknown_user_is_refused() -> None:
    user_id = uuid4()
    refused = reserve(user_id, "5.00")
    assert isinstance(refused, CreditRefused)
    [envelope] = recorded(OutboxEvent)
    assert (envelope.partitionkey, envelope.sequence) == (str(user_id), 0)
    assert envelope.data == {
        "order_id": str(ORDER),
        "user_id": str(user_id),
        "amount": "5.00",
        "reason": "unknown_user",
        "credit_limit": "0.00",
        "credit_reserved": "0.00",
        "version": 0,
    }


def test_an_inactive_user_is_refused(ada: UserState) -> None:
    deactivate_user(DeactivateUser(user_id=ada.id))
    refused = reserve(ada.id, "5.00")
    assert isinstance(refused, CreditRefused)
    assert refused.reason is RefusalReason.INACTIVE_USER


def test_an_amount_beyond_any_limit_is_refused(ada: UserState) -> None:
    assert isinstance(reserve(ada.id, "9" * 16 + ".99"), CreditRefused)


def test_a_repeated_reserve_does_nothing(ada: UserState) -> None:
    reserve(ada.id, "10.00")
    assert reserve(ada.id, "10.00") is None
    reserve(ada.id, "5000.00", UUID(int=5))
    assert reserve(ada.id, "5000.00", UUID(int=5)) is None
    assert reserved(ada) == Decimal("10.00")
    assert announced_types()[1:] == ["credit.reserved.v1", "credit.refused.v1"]


def test_a_release_returns_the_reserved_amount_once(ada: UserState) -> None:
    reserve(ada.id, "10.00")
    reserve(ada.id, "7.00", UUID(int=5))
    event = release()
    assert isinstance(event, CreditReleased)
    assert event.amount == Decimal("10.00")
    assert release() is None
    assert reserved(ada) == Decimal("7.00")
    assert announced_types()[1:] == [
        "credit.reserved.v1",
        "credit.reserved.v1",
        "credit.released.v1",
    ]
    assert recorded(OutboxEvent)[-1].sequence == User.objects.get().version == 4
    assert [row.version for row in UserHistory.objects.order_by("id")] == [1, 2, 3, 4]


def test_credit_of_a_deactivated_user_is_released(ada: UserState) -> None:
    reserve(ada.id, "10.00")
    deactivate_user(DeactivateUser(user_id=ada.id))
    assert isinstance(release(), CreditReleased)
    assert reserved(ada) == 0


def test_a_refused_order_has_nothing_to_release(ada: UserState) -> None:
    reserve(ada.id, "5000.00")
    assert release() is None
    assert announced_types()[1:] == ["credit.refused.v1"]


def test_a_reserve_after_its_release_is_refused(ada: UserState) -> None:
    assert release() is None
    late = reserve(ada.id, "10.00")
    assert isinstance(late, CreditRefused)
    assert late.reason is RefusalReason.ORDER_ENDED
    assert reserve(ada.id, "10.00") is None
    assert release() is None
    assert reserved(ada) == 0
    assert announced_types() == ["user.registered.v1", "credit.refused.v1"]


def test_a_late_reserve_of_an_unknown_user_is_refused() -> None:
    release()
    late = reserve(uuid4(), "10.00")
    assert isinstance(late, CreditRefused)
    assert late.user is None


def test_a_released_order_is_not_reserved_again(ada: UserState) -> None:
    reserve(ada.id, "10.00")
    release()
    assert reserve(ada.id, "10.00") is None
    assert reserved(ada) == 0


def test_the_smallest_amounts_are_reserved(ada: UserState) -> None:
    for number, amount in enumerate(("0.00", "0.01")):
        assert isinstance(reserve(ada.id, amount, UUID(int=number)), CreditReserved)


def test_each_step_of_an_order_runs_few_queries(
    partitions_checked: None, ada: UserState, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(4):  # reservation, user, history, event
        reserve(ada.id, "10.00")
    with django_assert_num_queries(2):
        reserve(ada.id, "10.00")
    with django_assert_num_queries(6):  # try a tombstone, read and write the reservation, …
        release()
    with django_assert_num_queries(5):  # reservation, try user, lock user, reservation, event
        reserve(ada.id, "5000.00", UUID(int=5))


def test_released_credit_can_be_reserved_again(register: Register) -> None:
    user = register(credit_limit=Decimal("10.00"))
    reserve(user.id, "10.00", UUID(int=1))
    release(UUID(int=1))
    assert isinstance(reserve(user.id, "10.00", UUID(int=2)), CreditReserved)
