"""What orders announces: one public event for each stored event, with the order after it."""

from typing import Any

from outbox.envelope import Envelope

from .domain.codec import write_lines
from .domain.events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
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
}

# The state of an order told once more, when a consumer has to be brought up to date.
UPDATED = "orders.order.updated.v1"


def represent(order: Order) -> dict[str, Any]:
    """The order as the world sees it: in public events and in answers alike."""
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
    """The public event for `event`, where `order` is the order just after it.

    Its data is the whole order, so a reader needs no earlier event to make sense of it.
    """
    return _envelope(PUBLIC_TYPES[type(event)], order, traceparent=traceparent)


def announce_again(order: Order) -> Envelope:
    """The public event that tells what `order` is now. It may come after a later change was
    told; its sequence says so."""
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
