"""Publishes the events of orders and applies them to the projections of orders."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from orders import event_store
from orders.domain.order import fold
from orders.models import CountedOrder, OrderView, Sales, StoredEvent
from orders.projections import LAST
from orders.published import represent
from outbox import consumer, tables
from outbox.consuming.reader import Reader
from outbox.publishing import relay
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from tests.support.meanwhile import meanwhile
from tests.support.waiting import eventually

NAMES = ("order_view", "sales")
WITHIN_SECONDS = 30.0


def reader(streams: Streams, name: str, stopping: threading.Event | None = None) -> Reader:
    return Reader(consumer.named(name), "orders", streams, stopping=stopping or threading.Event())


def publish(streams: Streams) -> int:
    with own_connection(tables.of("orders")) as connection:
        return Relay(tables.of("orders"), streams, connection).drain()


def settle(streams: Streams) -> None:
    """Publish every recorded event and apply it to both projections."""
    publish(streams)
    for name in NAMES:
        one = reader(streams, name)
        while one.step():
            pass
        one.confirm()


@contextmanager
def moving(streams: Streams) -> Iterator[None]:
    """Run a relay, and a reader of each projection, in the background."""
    stopping = threading.Event()

    def end() -> None:
        stopping.set()
        streams.nudge("orders")

    readers = (reader(streams, name, stopping).run for name in NAMES)
    with meanwhile(*readers, lambda: _relay(streams, stopping), end=end):
        yield


def _relay(streams: Streams, stopping: threading.Event) -> None:
    relay.run(tables.of("orders"), streams, stopping=stopping)
    connections.close_all()


def shown() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all projections."""
    return {
        model.__name__: sorted(model.objects.values_list(), key=repr)
        for model in (OrderView, Sales, CountedOrder)
    }


def true_orders() -> dict[Any, dict[str, Any]]:
    """Every order, computed from the events in its stream."""
    streams = StoredEvent.objects.values_list("stream", flat=True).distinct()
    return {stream: represent(fold(event_store.load(stream))) for stream in streams}


def wait_until_applied(streams: Streams) -> None:
    """Wait until both projections show the last version of every order."""

    def applied() -> bool:
        orders = true_orders()
        last = {key: order["version"] for key, order in orders.items()}
        disowned = [key for key, order in orders.items() if order["status"] == "DISOWNED"]
        view = dict(OrderView.objects.values_list("id", "version"))
        counted = dict(CountedOrder.objects.values_list("order_id", "version"))
        return view == last and counted == last | dict.fromkeys(disowned, LAST)

    eventually(applied, within_seconds=WITHIN_SECONDS, what="both projections are up to date")
