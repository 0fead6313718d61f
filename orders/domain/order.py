"""The order: its states, and a table with the result of each command in each state.

`decide` and `evolve` are pure functions: the first turns a command into events or an error, the
second applies an event to the state (Chassaing, "Functional event sourcing: decider").
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum, auto
from uuid import UUID

from .commands import CancelOrder, Command, ConfirmOrder, ExpireOrder, PlaceOrder, RejectOrder
from .errors import OrderEnded, OrderError, OrderExists, OrderNotFound
from .events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from .lines import Line, check_lines, total_of


class Status(StrEnum):
    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    DISOWNED = "DISOWNED"


ACTIVE = (Status.PENDING, Status.CONFIRMED)  # accounts holds credit for these orders


class Outcome(Enum):
    """The outcome of a command that creates no event."""

    IGNORED = auto()  # a duplicate or late command of the saga: no error
    REFUSED = auto()  # the caller needs to know: an error


IGNORED, REFUSED = Outcome.IGNORED, Outcome.REFUSED

# The result of each command in each state; None: the order is unknown. Commands of the saga and
# the sweep may arrive twice or late: an ended order ignores them, because the event that ended
# the order made accounts release the credit. Accounts decides only about an order that was
# committed. So if it decides about an unknown order, the database has lost this order.
TRANSITIONS: dict[Status | None, dict[type[Command], type[Event] | Outcome]] = {
    None: {
        PlaceOrder: OrderPlaced,
        ConfirmOrder: OrderDisowned,
        RejectOrder: OrderDisowned,
        CancelOrder: REFUSED,
        ExpireOrder: REFUSED,
    },
    Status.PENDING: {
        PlaceOrder: REFUSED,
        ConfirmOrder: OrderConfirmed,
        RejectOrder: OrderRejected,
        CancelOrder: OrderCancelled,
        ExpireOrder: OrderExpired,
    },
    Status.CONFIRMED: {
        PlaceOrder: REFUSED,
        ConfirmOrder: IGNORED,
        RejectOrder: IGNORED,
        CancelOrder: OrderCancelled,
        ExpireOrder: IGNORED,
    },
    **{
        ended: {
            PlaceOrder: REFUSED,
            ConfirmOrder: IGNORED,
            RejectOrder: IGNORED,
            CancelOrder: REFUSED,
            ExpireOrder: IGNORED,
        }
        for ended in (Status.REJECTED, Status.CANCELLED, Status.EXPIRED, Status.DISOWNED)
    },
}

# The state that each event leads to.
LEADS_TO: dict[type[Event], Status] = {
    OrderPlaced: Status.PENDING,
    OrderConfirmed: Status.CONFIRMED,
    OrderRejected: Status.REJECTED,
    OrderCancelled: Status.CANCELLED,
    OrderExpired: Status.EXPIRED,
    OrderDisowned: Status.DISOWNED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order, folded from its events. `version` is the number of these events. The lines of a
    disowned order are lost, so it has none, and its total is 0.00."""

    id: UUID
    user_id: UUID
    status: Status
    lines: tuple[Line, ...]
    reason: str
    version: int
    placed_at: datetime
    updated_at: datetime

    @property
    def total(self) -> Decimal:
        return total_of(self.lines)


def decide(order: Order | None, command: Command, *, at: datetime) -> tuple[Event, ...]:
    """Return the events of `command` at the time `at`; none if the table ignores the command.

    Raises InvalidLines, OrderNotFound, OrderExists or OrderEnded if the command is refused.
    """
    outcome = TRANSITIONS[order.status if order else None][type(command)]
    if isinstance(outcome, Outcome):
        if outcome is REFUSED:
            raise _refusal(order, command)
        return ()
    if isinstance(command, PlaceOrder):
        check_lines(command.lines)
    # An event takes its fields from its command, except the time.
    names = (field.name for field in fields(outcome) if field.name != "at")
    return (outcome(**{name: getattr(command, name) for name in names}, at=at),)


def _refusal(order: Order | None, command: Command) -> OrderError:
    if order is None:
        return OrderNotFound(command.order_id)
    error = OrderExists if isinstance(command, PlaceOrder) else OrderEnded
    return error(order.id, status=order.status, version=order.version)


def evolve(order: Order | None, event: Event) -> Order:
    """Return `order` after `event`, at the next version. Events are facts and aren't validated."""
    if isinstance(event, OrderPlaced | OrderDisowned):
        return Order(
            id=event.order_id,
            user_id=event.user_id,
            status=LEADS_TO[type(event)],
            lines=event.lines if isinstance(event, OrderPlaced) else (),
            reason="",
            version=1,
            placed_at=event.at,
            updated_at=event.at,
        )
    if order is None:
        raise OrderNotFound(event.order_id)
    # `dataclasses.replace` is slower, and a rebuild folds millions of events.
    return Order(
        id=order.id,
        user_id=order.user_id,
        status=LEADS_TO[type(event)],
        lines=order.lines,
        reason=event.reason if isinstance(event, OrderRejected) else order.reason,
        version=order.version + 1,
        placed_at=order.placed_at,
        updated_at=event.at,
    )


def fold(events: Iterable[Event]) -> Order | None:
    """Return the order after `events`, which start at its first event; None without events."""
    order: Order | None = None
    for event in events:
        order = evolve(order, event)
    return order
