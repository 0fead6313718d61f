"""The consumers of orders with a real stream server: relay, positions and parking."""

import threading
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from orders import event_store, handlers
from orders.domain.commands import CancelOrder, ConfirmOrder
from orders.domain.order import fold
from orders.models import OrderView, ParkedEvent
from outbox import consumer, tables
from outbox.consuming.reader import Reader
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from tests.integration.orders.conftest import ADA, BOB, Place
from tests.integration.orders.test_api import damage
from tests.integration.orders.test_saga import decision


@pytest.fixture
def publish(streams: Streams) -> Any:
    """Publishes every event that orders has recorded."""

    def drain() -> int:
        with own_connection(tables.of("orders")) as connection:
            return Relay(tables.of("orders"), streams, connection).drain()

    return drain


def read(streams: Streams, name: str, producer: str) -> int:
    stopping = threading.Event()
    return Reader(consumer.named(name), producer, streams, stopping=stopping).step()


def status(order_id: UUID) -> str:
    order = fold(event_store.load(order_id))
    assert order is not None
    return order.status.value


def test_the_order_view_follows_the_streams(place: Place, streams: Streams, publish: Any) -> None:
    orders = [place(), place(user_id=BOB)]
    handlers.confirm_order(ConfirmOrder(order_id=orders[0].id, user_id=ADA))
    assert publish() == 3
    assert read(streams, "order_view", "orders") == 3
    handlers.cancel_order(CancelOrder(order_id=orders[0].id))
    assert publish() == 1
    assert read(streams, "order_view", "orders") == 1
    shown = OrderView.objects.order_by("id").values_list("id", "status", "version")
    assert list(shown) == [(orders[0].id, "CANCELLED", 3), (orders[1].id, "PENDING", 1)]


@pytest.mark.parametrize("fact", ["reserved", "refused"])
def test_a_decision_about_a_lost_order_disowns_it_and_parks_nothing(
    place: Place, streams: Streams, publish: Any, fact: str
) -> None:
    lost = uuid7()
    deliver_decisions(place, streams, fact=fact, about=lost)
    assert status(lost) == "DISOWNED"
    assert not ParkedEvent.objects.exists()
    publish()
    read(streams, "order_view", "orders")
    shown = OrderView.objects.get(pk=lost)
    assert (shown.user_id, shown.status, shown.lines, shown.total) == (ADA, "DISOWNED", [], 0)


@pytest.mark.parametrize(
    ("version", "schema_version", "error"),
    [(3, 1, "BrokenStream"), (2, 9, "UnreadableEvent")],
    ids=["hole", "no upcaster"],
)
def test_a_decision_about_a_damaged_history_is_parked_alone(
    place: Place, streams: Streams, version: int, schema_version: int, error: str
) -> None:
    order = place()
    damage(order.id, version=version, schema_version=schema_version)
    deliver_decisions(place, streams, fact="reserved", about=order.id)
    assert error in ParkedEvent.objects.get().error


def deliver_decisions(place: Place, streams: Streams, *, fact: str, about: UUID) -> None:
    """Deliver three decisions, the second about this order. The others must take effect."""
    known, other = place().id, place().id
    decisions = [
        decision("reserved", known),
        decision(fact, about, reason="insufficient_credit"),
        decision("refused", other, reason="insufficient_credit"),
    ]
    # All decisions are in one partition, but each has its own key, so none waits for another.
    rows = []
    for row, envelope in enumerate(decisions, start=1):
        text = envelope.encode().replace('"partitionkey":"', f'"partitionkey":"{row}-')
        rows.append((row, 0, text))
    streams.publish("accounts", expected="", at="1-3", tick=1, rows=rows)
    assert read(streams, "saga", "accounts") == 3
    assert (status(known), status(other)) == ("CONFIRMED", "REJECTED")
