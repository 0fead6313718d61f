"""The saga in orders: a decision of accounts confirms or rejects an order."""

from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from orders import consumers, event_store, handlers
from orders.domain.commands import CancelOrder, ExpireOrder
from orders.domain.errors import OrderEnded
from orders.domain.order import Order, fold
from orders.inbound import Malformed
from orders.models import StoredEvent
from outbox.envelope import Envelope
from outbox.testing import deliver
from tests.integration.orders.conftest import Place, announced
from tests.integration.orders.test_projections import credit, envelope_of


def decision(fact: str, order_id: UUID, *, reason: str = "") -> Envelope:
    envelope = credit(fact, 2, "40.00")
    return envelope_of(
        envelope.type, 2, {**envelope.data, "order_id": str(order_id), "reason": reason}
    )


def decide(fact: str, order_id: UUID, *, reason: str = "") -> Envelope:
    envelope = decision(fact, order_id, reason=reason)
    deliver(envelope, consumer="saga")
    return envelope


def state(order_id: UUID) -> Any:
    order = fold(event_store.load(order_id))
    assert isinstance(order, Order)
    return order.status, order.reason, order.version


def test_reserved_credit_confirms_the_order(place: Place) -> None:
    order_id = place().id
    cause = decide("reserved", order_id)
    assert state(order_id) == ("CONFIRMED", "", 2)
    assert StoredEvent.objects.get(version=2).metadata == {
        "causation": str(cause.id),
        "correlation": str(order_id),
    }


def test_refused_credit_rejects_the_order_with_the_reason(place: Place) -> None:
    for reason in ("insufficient_credit", "unknown_user", "inactive_user"):
        order_id = place().id
        decide("refused", order_id, reason=reason)
        assert state(order_id) == ("REJECTED", reason, 2)


def test_a_duplicate_decision_takes_effect_once(place: Place) -> None:
    order_id = place().id
    for _ in range(3):
        decide("reserved", order_id)
    assert announced() == ["placed", "confirmed"]


def test_a_late_decision_is_ignored(place: Place) -> None:
    cancelled, expired = place().id, place().id
    handlers.cancel_order(CancelOrder(order_id=cancelled))
    handlers.expire_order(ExpireOrder(order_id=expired))
    for order_id in (cancelled, expired):
        decide("reserved", order_id)
        decide("refused", order_id, reason="order_ended")
    assert announced() == ["placed", "placed", "cancelled", "expired"]


def test_released_credit_changes_no_order(place: Place) -> None:
    order_id = place().id
    decide("released", order_id)
    assert state(order_id) == ("PENDING", "", 1)


@pytest.mark.parametrize("fact", ["reserved", "refused"])
def test_a_decision_about_an_unknown_order_disowns_it_once(fact: str) -> None:
    order_id = uuid7()
    cause = decide(fact, order_id, reason="insufficient_credit")
    decide(fact, order_id, reason="insufficient_credit")
    decide("refused", order_id, reason="order_ended")  # the answer to a late reservation
    assert state(order_id) == ("DISOWNED", "", 1)
    assert announced() == ["disowned"]
    assert StoredEvent.objects.get().metadata["causation"] == str(cause.id)
    with pytest.raises(OrderEnded):
        handlers.cancel_order(CancelOrder(order_id=order_id))


def test_credit_released_for_an_unknown_order_disowns_nothing() -> None:
    """Nothing is reserved, and the reservation before it has disowned the order."""
    decide("released", uuid7())
    assert announced() == []


def test_a_malformed_decision_is_an_error(place: Place) -> None:
    with pytest.raises(Malformed, match="order_id"):
        deliver(envelope_of("accounts.credit.reserved.v1", 2, {}), consumer="saga")


def test_every_consumer_lists_every_public_type_of_its_producers() -> None:
    accounts = {
        *(
            f"accounts.user.{fact}.v1"
            for fact in ("registered", "updated", "deactivated", "erased")
        ),
        *(f"accounts.credit.{fact}.v1" for fact in ("reserved", "refused", "released")),
    }
    orders = {
        f"orders.order.{fact}.v1"
        for fact in (
            *("placed", "confirmed", "rejected", "cancelled", "expired", "disowned", "updated"),
        )
    }
    assert set(consumers.CONSUMERS["saga"]) == accounts
    assert set(consumers.CONSUMERS["customer_view"]) == accounts
    assert set(consumers.CONSUMERS["order_view"]) == orders
