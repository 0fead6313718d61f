"""The history of an order in sentences, from its stored events.

A decision of accounts is not a stored event. The stored event that it caused has the decision's id,
which is a UUIDv7 that contains the time of the decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from .domain.codec import Encoded, decode
from .domain.events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from .domain.lines import total_of
from .domain.notation import write_amount
from .models import StoredEvent

DECISIONS: dict[type[Event], str] = {
    OrderConfirmed: "accounts reserved the credit",
    OrderRejected: "accounts refused the credit",
    OrderDisowned: "accounts decided about the credit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One sentence. `id` is the id of accounts' public event, or the version of a stored event."""

    at: datetime
    service: str
    what: str
    id: str


def steps_of(row: StoredEvent) -> Iterator[Step]:
    """Yield the decision of accounts that caused a stored event, if any, and then the event."""
    encoded = Encoded(type=row.type, schema_version=row.schema_version, data=row.data)
    event = decode(encoded, order_id=row.stream)
    cause = row.metadata.get("causation")
    if cause and type(event) in DECISIONS:
        at, what = _time_of(cause) or event.at, DECISIONS[type(event)]
        yield Step(at=at, service="accounts", what=what, id=cause)
    what = _describe(event, by_staff=str(row.metadata.get("actor")).startswith("staff "))
    yield Step(at=event.at, service="orders", what=what, id=str(row.version))


def _describe(event: Event, *, by_staff: bool) -> str:
    by = " by staff" if by_staff else ""  # customers must not see the name of the member of staff
    match event:
        case OrderPlaced():
            total = write_amount(total_of(event.lines))
            return f"placed{by}: {len(event.lines)} line(s), {total} in all"
        case OrderConfirmed():
            return "confirmed"
        case OrderRejected():
            return f"rejected: {event.reason}"
        case OrderCancelled():
            return f"cancelled{by}"
        case OrderExpired():
            return "expired: no decision before its deadline"
        case OrderDisowned():
            return "disowned: the database has lost this order; its credit is released"


def _time_of(text: str) -> datetime | None:
    """The time in a UUIDv7, in milliseconds (RFC 9562); None for any other text."""
    try:
        id_ = UUID(text)
    except ValueError:
        return None
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC) if id_.version == 7 else None
