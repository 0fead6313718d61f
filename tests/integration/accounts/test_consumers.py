"""What accounts does when orders tells it something."""

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
from outbox.testing import deliver, published

ORDER = UUID(int=42)


def order(fact: str, user_id: UUID, *, total: str = "12.30", **more: Any) -> Envelope:
    data = {"id": str(ORDER), "user_id": str(user_id), "total": total, "version": 1} | more
    return Envelope(
        type=f"orders.order.{fact}.v1",
        subject=str(ORDER),
        partitionkey=str(ORDER),
        sequence=1,
        data=data,
        time=datetime.now(UTC),
    )


def hear(fact: str, user_id: UUID, **more: Any) -> None:
    deliver(order(fact, user_id, **more), consumer="credit")


def test_a_placed_order_reserves_its_total(ada: UserState) -> None:
    hear("placed", ada.id)
    assert User.objects.get().credit_reserved == Decimal("12.30")
    assert published(OutboxEvent)[-1].type == "accounts.credit.reserved.v1"


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
def test_an_order_that_ends_releases_what_it_held(ada: UserState, ending: str) -> None:
    hear("placed", ada.id)
    # The amount that counts is the reservation's, whatever the later event says.
    hear(ending, ada.id, total="99.00")
    assert User.objects.get().credit_reserved == 0
    assert published(OutboxEvent)[-1].type == "accounts.credit.released.v1"


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
def test_an_ending_that_overtakes_the_order_has_it_refused(ada: UserState, ending: str) -> None:
    hear(ending, ada.id)
    hear("placed", ada.id)
    assert User.objects.get().credit_reserved == 0
    assert published(OutboxEvent)[-1].data["reason"] == "order_ended"


@pytest.mark.parametrize("fact", ["confirmed", "rejected"])
def test_what_needs_nothing_is_passed_over(ada: UserState, fact: str) -> None:
    hear("placed", ada.id)
    before = User.objects.get().state()
    hear(fact, ada.id)
    assert User.objects.get().state() == before


def test_an_unknown_user_is_told_of_not_parked() -> None:
    hear("placed", uuid4())
    assert published(OutboxEvent)[-1].data["reason"] == "unknown_user"


def test_a_malformed_order_names_its_field_and_leaves_nothing(ada: UserState) -> None:
    with pytest.raises(MalformedOrder, match="total"):
        hear("placed", ada.id, total="a lot")
    assert not Reservation.objects.exists()


def test_every_fact_of_an_order_has_its_place_in_the_table() -> None:
    facts = ("placed", "confirmed", "rejected", "cancelled", "expired", "updated")
    assert set(CONSUMERS["credit"]) == {f"orders.order.{fact}.v1" for fact in facts}


@pytest.mark.parametrize("status", ["PENDING", "CONFIRMED"])
def test_an_order_told_once_more_gets_the_credit_that_it_lacks_once(
    ada: UserState, status: str
) -> None:
    for _ in range(2):
        hear("updated", ada.id, status=status)
    assert User.objects.get().credit_reserved == Decimal("12.30")


@pytest.mark.parametrize("status", ["CANCELLED", "EXPIRED", "REJECTED"])
def test_an_ended_order_told_once_more_gives_back_what_it_holds(
    ada: UserState, status: str
) -> None:
    hear("placed", ada.id)
    hear("updated", ada.id, status=status)
    assert User.objects.get().credit_reserved == 0


def test_an_order_in_a_state_that_nobody_knows_is_malformed(ada: UserState) -> None:
    with pytest.raises(MalformedOrder, match="status"):
        hear("updated", ada.id, status="LOST")


def test_users_are_told_once_more_in_batches_with_their_versions(ada: UserState) -> None:
    last = backfill(after="", limit=10)
    assert (last, backfill(after=last, limit=10)) == (str(ada.id), "")
    told = published(OutboxEvent)[-1]
    assert (told.type, told.subject, told.sequence) == (
        "accounts.user.updated.v1",
        str(ada.id),
        ada.version,
    )
