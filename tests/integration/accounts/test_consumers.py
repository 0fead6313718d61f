"""How accounts handles the events of orders."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from accounts.consumers import CONSUMERS
from accounts.domain.state import UserState
from accounts.handlers import backfill
from accounts.inbound import MalformedOrder
from accounts.models import OutboxEvent, Reservation, User
from outbox.envelope import Envelope
from outbox.testing import deliver, recorded

ORDER = UUID(int=42)


def order_event(fact: str, user_id: UUID, *, total: str = "12.30", **more: Any) -> Envelope:
    data = {"id": str(ORDER), "user_id": str(user_id), "total": total, "version": 1} | more
    return Envelope(
        type=f"orders.order.{fact}.v1",
        subject=str(ORDER),
        partitionkey=str(ORDER),
        sequence=1,
        data=data,
        time=datetime.now(UTC),
    )


def consume(fact: str, user_id: UUID, **more: Any) -> None:
    deliver(order_event(fact, user_id, **more), consumer="credit")


def test_a_placed_order_reserves_its_total(ada: UserState) -> None:
    consume("placed", ada.id)
    assert User.objects.get().credit_reserved == Decimal("12.30")
    assert recorded(OutboxEvent)[-1].type == "accounts.credit.reserved.v1"


@pytest.mark.parametrize("ending", ["cancelled", "expired", "disowned"])
def test_the_end_of_an_order_releases_its_credit(ada: UserState, ending: str) -> None:
    consume("placed", ada.id)
    # The handler releases the amount of the reservation, not the amount in the event.
    consume(ending, ada.id, total="99.00")
    assert User.objects.get().credit_reserved == 0
    assert recorded(OutboxEvent)[-1].type == "accounts.credit.released.v1"


@pytest.mark.parametrize("ending", ["cancelled", "expired", "disowned"])
def test_an_order_that_ends_before_its_reserve_is_refused(ada: UserState, ending: str) -> None:
    consume(ending, ada.id)
    consume("placed", ada.id)
    assert User.objects.get().credit_reserved == 0
    assert recorded(OutboxEvent)[-1].data["reason"] == "order_ended"


def test_confirmed_and_rejected_orders_change_nothing(ada: UserState) -> None:
    consume("placed", ada.id)
    before = User.objects.get().state()
    for fact in ("confirmed", "rejected"):
        consume(fact, ada.id)
        assert User.objects.get().state() == before


def test_an_order_of_an_unknown_user_is_refused_and_not_parked() -> None:
    consume("placed", uuid4())
    assert recorded(OutboxEvent)[-1].data["reason"] == "unknown_user"


def test_a_malformed_order_reserves_nothing(ada: UserState) -> None:
    with pytest.raises(MalformedOrder, match="total"):
        consume("placed", ada.id, total="a lot")
    assert not Reservation.objects.exists()


def test_the_credit_consumer_lists_every_order_event() -> None:
    facts = ("placed", "confirmed", "rejected", "cancelled", "expired", "disowned", "updated")
    assert set(CONSUMERS["credit"]) == {f"orders.order.{fact}.v1" for fact in facts}


@pytest.mark.parametrize("status", ["PENDING", "CONFIRMED"])
def test_a_backfilled_open_order_reserves_its_credit_once(ada: UserState, status: str) -> None:
    for _ in range(2):
        consume("updated", ada.id, status=status)
    assert User.objects.get().credit_reserved == Decimal("12.30")


@pytest.mark.parametrize("status", ["CANCELLED", "EXPIRED", "REJECTED", "DISOWNED"])
def test_a_backfilled_ended_order_releases_its_credit(ada: UserState, status: str) -> None:
    consume("placed", ada.id)
    consume("updated", ada.id, status=status)
    assert User.objects.get().credit_reserved == 0


def test_a_backfilled_order_with_an_unknown_status_is_malformed(ada: UserState) -> None:
    with pytest.raises(MalformedOrder, match="status"):
        consume("updated", ada.id, status="LOST")


def test_a_backfill_announces_users_in_batches_with_their_versions(ada: UserState) -> None:
    last = backfill(after="", limit=10)
    assert (last, backfill(after=last, limit=10)) == (str(ada.id), "")
    event = recorded(OutboxEvent)[-1]
    assert (event.type, event.subject, event.sequence) == (
        "accounts.user.updated.v1",
        str(ada.id),
        ada.version,
    )
