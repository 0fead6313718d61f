"""Public events of orders: one for each stored event, with the order after that event."""

from typing import Any

from outbox.envelope import Envelope

from .domain.codec import write_lines
from .domain.events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from .domain.notation import write_amount, write_time
from .domain.order import Order

PUBLIC_TYPES: dict[type[Event], str] = {
    OrderPlaced: "orders.order.placed.v1",
    OrderConfirmed: "orders.order.confirmed.v1",
    OrderRejected: "orders.order.rejected.v1",
    OrderCancelled: "orders.order.cancelled.v1",
    OrderExpired: "orders.order.expired.v1",
    OrderDisowned: "orders.order.disowned.v1",
}

# An order's current state, announced by a backfill.
UPDATED = "orders.order.updated.v1"


def represent(order: Order) -> dict[str, Any]:
    """The order as JSON, in public events and HTTP responses."""
    return {
        "id": str(order.id),
        "user_id": str(order.user_id),
        "status": str(order.status),
        "lines": write_lines(order.lines),
        "total": write_amount(order.total),
        "reason": order.reason,
        "version": order.version,
        "placed_at": write_time(order.placed_at),
        "updated_at": write_time(order.updated_at),
    }


def announce(event: Event, order: Order, *, traceparent: str | None = None) -> Envelope:
    """Return the public event for `event`; `order` is the order after the event.

    The data is the whole order, so consumers don't need earlier events.
    """
    return _envelope(PUBLIC_TYPES[type(event)], order, traceparent=traceparent)


def announce_current(order: Order) -> Envelope:
    """The public event with the current `order`. It may arrive after the event of a later version,
    so consumers compare the sequence."""
    return _envelope(UPDATED, order)


def _envelope(type_: str, order: Order, *, traceparent: str | None = None) -> Envelope:
    return Envelope(
        type=type_,
        subject=str(order.id),
        partitionkey=str(order.id),
        sequence=order.version,
        data=represent(order),
        time=order.updated_at,
        traceparent=traceparent,
    )
