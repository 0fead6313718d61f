"""The chapters of an order's story, made from the facts of both services."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec

from outbox import tracing
from outbox.tracing import Effect, Place, Tracer

from .domain.events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from .domain.notation import read_time
from .domain.order import ACTIVE, Order
from .models import StoredEvent
from .published import PUBLIC_TYPES
from .steps import LABEL, OWNER, Chapter, Step, StepState, applied_by, describe, time_of, way

RESERVED: Final = "accounts.credit.reserved.v1"
REFUSED: Final = "accounts.credit.refused.v1"
RELEASED: Final = "accounts.credit.released.v1"
# The decisions of accounts that cause an event.
DECISIONS: Final[Mapping[type[Event], tuple[str, ...]]] = {
    OrderConfirmed: (RESERVED,),
    OrderRejected: (REFUSED,),
    OrderDisowned: (RESERVED, REFUSED),
}
# What a consumer does, for the page. A consumer that isn't listed is shown by its name.
MEANINGS: Final = {
    ("saga", RESERVED): "confirms the order",
    ("saga", REFUSED): "rejects the order",
    ("order_view", ""): "shows this version of the order in lists",
    ("sales", ""): "counts the order if it is confirmed",
    ("customer_view", ""): "copies the customer's credit",
}
REQUESTS: Final[Mapping[type[Event], str]] = {
    OrderPlaced: "POST /api/orders/",
    OrderCancelled: "POST /api/orders/<id>/cancel/",
}
PROGRAMS: Final = {"import": "manage.py import_orders", "reconcile": "manage.py reconcile"}


class Chapters:
    """Makes the chapters of one story from the stored events and the part of accounts."""

    def __init__(
        self, order: Order, part: Mapping[str, Any] | None, away: str, *, for_staff: bool
    ) -> None:
        self._order = order
        self._away = away
        self._applied_by = partial(applied_by, for_staff=for_staff)
        self._reservation: Mapping[str, Any] | None = part["reservation"] if part else None
        # The id of an event without a row isn't known; there is one event of each type.
        self._others = {
            each["place"]["id"] or each["place"]["type"]: each
            for each in (part["events"] if part else ())
        }
        self._tracer = Tracer(OWNER)
        self._saga_applied: dict[str, datetime] = {}  # by the id of the decision

    def of(
        self,
        row: StoredEvent,
        event: Event,
        place: Place,
        theirs: Sequence[Mapping[str, Any]] | None,
        tracer: Tracer,
    ) -> Iterator[Chapter]:
        """The chapter of one stored event, after the one of the decision that caused it. `theirs`
        are the effects of accounts' consumers, None if they aren't known."""
        yield from self._decision_before(row, event)
        by_staff = str(row.metadata.get("actor")).startswith("staff ")
        what = describe(event, by_staff=by_staff)
        written = Step(
            kind="event", service=LABEL, what=f"stored event {row.version}: {what}",
            at=event.at, id=str(row.version),
        )  # fmt: skip
        steps = [self._cause(row, event, by_staff=by_staff), written, *way(place, LABEL)]
        steps += [
            self._applied_by(effect, place, _meaning(effect.consumer, place.type))
            for effect in tracer.effects(place, label=LABEL)
        ]
        yield Chapter(
            service=LABEL,
            type=PUBLIC_TYPES[type(event)],
            what=what,
            at=event.at,
            id=str(row.version),
            steps=[*steps, *self._theirs(place, theirs)],
        )

    def insert_others(self, chapters: list[Chapter]) -> None:
        """Insert the events of accounts that caused no event of orders: at the end, or, for a
        decision, before the event that ended the order."""
        for other in self._others.values():
            chapter = self._other(other)
            is_release = chapter.type == RELEASED
            later = (
                n for n, each in enumerate(chapters)
                if not is_release and n and each.at and chapter.at and each.at > chapter.at
            )  # fmt: skip
            chapters.insert(next(later, len(chapters)), chapter)

    def _cause(self, row: StoredEvent, event: Event, *, by_staff: bool) -> Step:
        make = partial(Step, kind="request", service=LABEL)
        actor = row.metadata.get("actor")
        if cause := row.metadata.get("causation"):
            return make(what=f"the saga handled the event {cause} of {OWNER}", id=cause)
        if actor in PROGRAMS:
            return make(what=PROGRAMS[actor])
        if actor and type(event) in REQUESTS:
            who = "staff" if by_staff else "a customer or a member of staff"
            if actor == str(self._order.user_id):
                who = "the customer"
            trace = row.metadata.get("traceparent", "")
            return make(what=f"{REQUESTS[type(event)]} by {who}", id=trace)
        if isinstance(event, OrderExpired):
            return make(what="the sweep found that the deadline had passed")
        return make(what="a program called the handler, without a request")

    def _theirs(self, place: Place, theirs: Sequence[Mapping[str, Any]] | None) -> Iterator[Step]:
        if theirs is None:
            what = f"the consumers of {OWNER} apply the event"
            unknown, why = StepState.UNKNOWN, self._away
            yield Step(kind="consumer", service=OWNER, what=what, state=unknown, why=why)
            return
        for each in theirs:
            effect = msgspec.convert(
                {name: value for name, value in each.items() if name != "meaning"}, Effect
            )
            at = self._reservation_time(place) if effect.consumer == "credit" else None
            yield self._applied_by(effect, place, each["meaning"], at=at)

    def _reservation_time(self, place: Place) -> datetime | None:
        """When accounts reserved, refused or released, if the row still holds this time."""
        if self._reservation is None:
            return None
        status = self._reservation["status"]
        if place.type == PUBLIC_TYPES[OrderPlaced]:
            # The row of a refusal can be older: a tombstone.
            time = "updated_at" if status == "REFUSED" else "created_at"
            return read_time(self._reservation[time])
        return read_time(self._reservation["updated_at"]) if status == "RELEASED" else None

    def _decision_before(self, row: StoredEvent, event: Event) -> Iterator[Chapter]:
        cause, types = row.metadata.get("causation"), DECISIONS.get(type(event))
        if not cause or not types:
            return
        self._saga_applied[cause] = row.recorded_at
        for key in (cause, *types):
            if other := self._others.pop(key, None):
                yield self._other(other | {"place": other["place"] | {"id": cause}})
                return
        # accounts doesn't answer, or has no row. A UUIDv7 holds the time.
        what = {
            OrderConfirmed: "accounts reserved the credit",
            OrderRejected: "accounts refused the credit",
        }.get(type(event), "accounts decided about the credit")
        at = time_of(cause) or event.at
        decided = Step(kind="credit", service=OWNER, what=what, at=at, id=cause)
        type_ = types[0] if len(types) == 1 else ""
        yield Chapter(service=OWNER, type=type_, what=what, at=at, id=cause, steps=[decided])

    def _other(self, other: Mapping[str, Any]) -> Chapter:
        place = msgspec.convert(other["place"], Place)
        written = Step(kind="credit", service=OWNER, what=other["what"], at=place.time, id=place.id)
        steps = [written, *way(place, OWNER), *self._theirs(place, other["effects"])]
        for effect in self._tracer.effects(place, label=LABEL):
            meaning = _meaning(effect.consumer, place.type)
            at = None
            if effect.consumer == "saga":
                at = self._saga_applied.get(place.id)
                ended = self._order.status not in ACTIVE
                if at is None and ended and effect.state is tracing.State.APPLIED:
                    meaning = "ignored the decision, because the order had ended"
            steps.append(self._applied_by(effect, place, meaning, at=at))
        return Chapter(
            service=OWNER, type=place.type, what=other["what"], at=place.time, id=place.id,
            steps=steps,
        )  # fmt: skip


def newest_sequence(part: Mapping[str, Any] | None) -> int:
    """The newest version of the customer in the part of accounts; 0 for none. A refusal changes
    no version."""
    places = [each["place"] for each in (part["events"] if part else ())]
    return max((each["sequence"] for each in places if each["type"] != REFUSED), default=0)


def _meaning(consumer: str, type_: str) -> str:
    return MEANINGS.get((consumer, type_)) or MEANINGS.get((consumer, ""), "applies the event")
