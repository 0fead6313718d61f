"""The steps of an order's story, as the API and the page show them.

A chapter is one event: what caused it, the stored event, the outbox row, the tick, the stream entry
and what each consumer did with it. A step has a time only if a row holds the time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from outbox import tracing
from outbox.tracing import Effect, Place

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
from .domain.order import Status

LABEL: Final = "orders"
OWNER: Final = "accounts"


class StepState(StrEnum):
    """Whether a step has happened, and if not, why."""

    DONE = "done"
    WAITS = "waits"
    PARKED = "parked"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


STATES: Final = {
    tracing.State.APPLIED: StepState.DONE,
    tracing.State.BEHIND: StepState.WAITS,
    tracing.State.UNPUBLISHED: StepState.WAITS,
    tracing.State.PARKED: StepState.PARKED,
    tracing.State.QUEUED: StepState.PARKED,
    tracing.State.DROPPED: StepState.DROPPED,
    tracing.State.UNKNOWN: StepState.UNKNOWN,
}


class Step(Struct, frozen=True, kw_only=True):
    """One step. `why` is empty if the step is done. `id` identifies what the step wrote: a version,
    a row, a tick or an entry; for a consumer, its position."""

    kind: str  # request | event | row | tick | entry | consumer | view | cache | credit
    service: str
    what: str
    state: StepState = StepState.DONE
    at: datetime | None = None
    id: str = ""
    why: str = ""
    key: str = ""  # of a parked sequence: the step waits for its retry


class Chapter(Struct, frozen=True, kw_only=True):
    """One event. `id` is the version of an event of orders, or the id of an event of accounts."""

    service: str
    type: str
    what: str
    at: datetime | None
    id: str
    steps: list[Step]


class Story(Struct, frozen=True, kw_only=True):
    """All chapters in order, and the views as they are now. `away` says why the part of accounts is
    missing; it is empty if the part is there."""

    order_id: UUID
    user_id: UUID
    status: Status
    version: int
    away: str
    chapters: list[Chapter]
    now: list[Step]

    @property
    def waits(self) -> list[Step]:
        """The steps that haven't happened, or of which nothing is known."""
        steps = [step for chapter in self.chapters for step in chapter.steps] + self.now
        return [step for step in steps if step.state is not StepState.DONE]

    @property
    def complete(self) -> bool:
        return not self.waits

    @property
    def is_parked(self) -> bool:
        """Whether a step waits for the retry of a parked sequence."""
        return any(step.state is StepState.PARKED for step in self.waits)

    @property
    def is_stuck(self) -> bool:
        """Whether a step never happens without an operator."""
        return self.is_parked or any(step.state is StepState.DROPPED for step in self.waits)


def describe(event: Event, *, by_staff: bool) -> str:
    """The event in a sentence. Customers must not see the name of the member of staff."""
    by = " by staff" if by_staff else ""
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


def way(place: Place, service: str) -> Iterator[Step]:
    """The steps from the outbox row to the stream."""
    if place.is_lost:
        why = "the outbox has no such row: the database was restored, or lost it in a failover"
        yield Step(kind="row", service=service, what="outbox row", state=StepState.UNKNOWN, why=why)
        return
    if place.row is None:
        what = "the outbox row is deleted, because the event was sent"
        yield Step(kind="row", service=service, what=what)
        return
    what = f"outbox row {place.row}, in the same transaction"
    yield Step(kind="row", service=service, what=what, at=place.time, id=str(place.row))
    if place.tick is None:
        why = f"no tick sees the row: the relay of {service} hasn't run since"
        yield Step(kind="tick", service=service, what="tick", state=StepState.WAITS, why=why)
        return
    if place.is_skipped:
        what = f"tick {place.tick} skips the row: it was sent before a failover lost its tick"
        yield Step(kind="tick", service=service, what=what, id=str(place.tick))
        return
    at = tracing.time_of(place.tick)
    yield Step(kind="tick", service=service, what=f"tick {place.tick}", at=at, id=str(place.tick))
    stream = f"{{{service}}}:events:{place.partition}"
    what = f"entry {place.entry} of {stream}"
    if place.published is None:
        state, why = StepState.UNKNOWN, "the stream server doesn't answer"
    elif place.published:
        state, why = StepState.DONE, ""
    else:
        state, why = StepState.WAITS, f"the cursor of {service} is before the entry"
    yield Step(kind="entry", service=service, what=what, state=state, id=place.entry, why=why)


def applied_by(
    effect: Effect,
    place: Place,
    meaning: str,
    *,
    for_staff: bool,
    at: datetime | None = None,
) -> Step:
    """The step of one consumer. `at` is the time if the consumer has applied the event."""
    state = STATES[effect.state]
    return Step(
        kind="consumer",
        service=effect.service,
        what=f"{effect.consumer} {meaning}",
        state=state,
        at=at if state is StepState.DONE else None,
        id=f"{place.partition}:{effect.position}",
        why=_why(effect, place, for_staff=for_staff),
        key=place.key if state is StepState.PARKED else "",
    )


def _why(effect: Effect, place: Place, *, for_staff: bool) -> str:
    match effect.state:
        case tracing.State.BEHIND:
            return _behind(effect)
        case tracing.State.UNPUBLISHED:
            return f"the relay of {place.producer} hasn't published the event"
        case tracing.State.PARKED:
            error = f": {effect.error}" if for_staff else ""
            return f"parked since {_short(effect.since)}{error}"
        case tracing.State.QUEUED:
            return (
                f"waits since {_short(effect.since)}, because an earlier event of the key "
                f"{place.key} is parked"
            )
        case tracing.State.DROPPED:
            return f"dropped at {_short(effect.since)}: it is never applied"
        case tracing.State.UNKNOWN:
            return "the stream server doesn't answer"
    return ""


def _behind(effect: Effect) -> str:
    at_least = "at least " if effect.behind and effect.behind >= tracing.COUNTED_EVENTS else ""
    waited = f", the oldest for {effect.behind_seconds:.0f} s" if effect.behind_seconds else ""
    return f"behind by {at_least}{effect.behind} in its partition{waited}"


def _short(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "an unknown time"


def time_of(text: str) -> datetime | None:
    """The time in a UUIDv7, in milliseconds (RFC 9562); None for any other text."""
    try:
        id_ = UUID(text)
    except ValueError:
        return None
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC) if id_.version == 7 else None
