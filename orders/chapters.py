"""The chapters and steps of an order's story, made from the facts of both services.

A chapter is one event: what caused it, the stored event, the outbox row, the tick, the stream entry
and what each consumer did with it. A step has a time only if a row holds the time.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import router
from msgspec import Struct

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
from .domain.lines import total_of
from .domain.notation import read_time, write_amount
from .domain.order import ACTIVE, Order, Status
from .models import CustomerView, OrderView, StoredEvent
from .published import PUBLIC_TYPES

LABEL: Final = "orders"
OWNER: Final = "accounts"

RESERVED: Final = "accounts.credit.reserved.v1"
REFUSED: Final = "accounts.credit.refused.v1"
RELEASED: Final = "accounts.credit.released.v1"
DECISIONS: Final[Mapping[type[Event], str]] = {
    OrderConfirmed: RESERVED,
    OrderRejected: REFUSED,
    OrderDisowned: "",  # either
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


class Outcome(StrEnum):
    """Whether a step has happened, and if not, why."""

    DONE = "done"
    WAITS = "waits"
    PARKED = "parked"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


OUTCOMES: Final = {
    tracing.State.APPLIED: Outcome.DONE,
    tracing.State.BEHIND: Outcome.WAITS,
    tracing.State.UNPUBLISHED: Outcome.WAITS,
    tracing.State.PARKED: Outcome.PARKED,
    tracing.State.QUEUED: Outcome.PARKED,
    tracing.State.DROPPED: Outcome.DROPPED,
    tracing.State.UNKNOWN: Outcome.UNKNOWN,
}


class Step(Struct, frozen=True, kw_only=True):
    """One step. `why` is empty if the step is done. `id` identifies what the step wrote: a version,
    a row, a tick or an entry; for a consumer, its position."""

    kind: str  # request | event | row | tick | entry | consumer | view | cache | credit
    service: str
    what: str
    state: Outcome = Outcome.DONE
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
        return [step for step in steps if step.state is not Outcome.DONE]

    @property
    def complete(self) -> bool:
        return not self.waits

    @property
    def is_stuck(self) -> bool:
        """Whether a step never happens without an operator."""
        return any(step.state in (Outcome.PARKED, Outcome.DROPPED) for step in self.waits)


class StoryBuilder:
    """Makes the steps of one story from the facts of both services."""

    def __init__(
        self, order: Order, part: Mapping[str, Any] | None, away: str, *, for_staff: bool
    ) -> None:
        self._order = order
        self._away = away
        self._for_staff = for_staff
        self._reservation: Mapping[str, Any] | None = part["reservation"] if part else None
        self._customer: Mapping[str, Any] | None = part["customer"] if part else None
        self._others = {each["place"]["id"]: each for each in (part["events"] if part else ())}
        self._tracer = Tracer(OWNER)
        self._sequences = [each["place"]["sequence"] for each in self._others.values()
                           if each["place"]["type"] != REFUSED]  # fmt: skip
        self._applied_at: dict[str, datetime] = {}  # of the saga, by the id of the decision

    # -- chapters of orders --------------------------------------------------------------

    def chapter(
        self,
        row: StoredEvent,
        event: Event,
        place: Place | None,
        theirs: Sequence[Mapping[str, Any]] | None,
        tracer: Tracer,
    ) -> Chapter:
        """The chapter of one stored event. `theirs` are the effects of accounts' consumers, None if
        they aren't known."""
        by_staff = str(row.metadata.get("actor")).startswith("staff ")
        what = describe(event, by_staff=by_staff)
        written = Step(
            kind="event", service=LABEL, what=f"stored event {row.version}: {what}",
            at=event.at, id=str(row.version),
        )  # fmt: skip
        steps = [self._cause(row, event, by_staff=by_staff), written, *_way(place, LABEL)]
        if place:
            steps += [self._effect(e, place, _meaning(e.consumer, place.type))
                      for e in tracer.effects(place, label=LABEL)]  # fmt: skip
            steps += self._theirs(place, theirs)
        return Chapter(
            service=LABEL,
            type=PUBLIC_TYPES[type(event)],
            what=what,
            at=event.at,
            id=str(row.version),
            steps=steps,
        )

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
            yield Step(
                kind="consumer", service=OWNER, what=what, state=Outcome.UNKNOWN, why=self._away
            )
            return
        for each in theirs:
            effect = msgspec.convert(
                {name: value for name, value in each.items() if name != "meaning"}, Effect
            )
            at = self._reservation_time(place) if effect.consumer == "credit" else None
            yield self._effect(effect, place, each["meaning"], at=at)

    def _reservation_time(self, place: Place) -> datetime | None:
        """When accounts reserved, refused or released, if the row still holds this time."""
        if self._reservation is None:
            return None
        if place.type == PUBLIC_TYPES[OrderPlaced]:
            return read_time(self._reservation["created_at"])
        if self._reservation["status"] == "RELEASED":
            return read_time(self._reservation["updated_at"])
        return None

    def _effect(
        self, effect: Effect, place: Place, meaning: str, *, at: datetime | None = None
    ) -> Step:
        state = OUTCOMES[effect.state]
        return Step(
            kind="consumer",
            service=effect.service,
            what=f"{effect.consumer} {meaning}",
            state=state,
            at=at if state is Outcome.DONE else None,
            id=f"{place.partition}:{effect.position}",
            why=self._why(effect, place),
            key=place.key if state is Outcome.PARKED else "",
        )

    def _why(self, effect: Effect, place: Place) -> str:
        match effect.state:
            case tracing.State.BEHIND:
                return _behind(effect)
            case tracing.State.UNPUBLISHED:
                return f"the relay of {place.producer} hasn't published the event"
            case tracing.State.PARKED:
                return f"parked since {_short(effect.since)}" + self._error(effect)
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

    def _error(self, effect: Effect) -> str:
        return f": {effect.error}" if self._for_staff else ""

    # -- chapters of accounts ------------------------------------------------------------

    def decision_before(self, row: StoredEvent, event: Event) -> Iterator[Chapter]:
        """The chapter of the decision that caused this stored event, if any."""
        cause = row.metadata.get("causation")
        if not cause or type(event) not in DECISIONS:
            return
        self._applied_at[cause] = row.recorded_at
        if other := self._others.pop(cause, None):
            yield self._other(other)
            return
        # accounts doesn't answer, or no longer has the row. A UUIDv7 holds the time.
        what = {
            OrderConfirmed: "accounts reserved the credit",
            OrderRejected: "accounts refused the credit",
        }.get(type(event), "accounts decided about the credit")
        at = _time_of(cause) or event.at
        decided = Step(kind="credit", service=OWNER, what=what, at=at, id=cause)
        yield Chapter(
            service=OWNER, type=DECISIONS[type(event)], what=what, at=at, id=cause, steps=[decided]
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

    def _other(self, other: Mapping[str, Any]) -> Chapter:
        place = msgspec.convert(other["place"], Place)
        written = Step(kind="credit", service=OWNER, what=other["what"], at=place.time, id=place.id)
        steps = [written, *_way(place, OWNER), *self._theirs(place, other["effects"])]
        for effect in self._tracer.effects(place, label=LABEL):
            meaning = _meaning(effect.consumer, place.type)
            at = None
            if effect.consumer == "saga":
                at = self._applied_at.get(place.id)
                ended = self._order.status not in ACTIVE
                if at is None and ended and effect.state is tracing.State.APPLIED:
                    meaning = "ignored the decision, because the order had ended"
            steps.append(self._effect(effect, place, meaning, at=at))
        return Chapter(
            service=OWNER, type=place.type, what=other["what"], at=place.time, id=place.id,
            steps=steps,
        )  # fmt: skip

    # -- the present ---------------------------------------------------------------------

    def now(self) -> Iterator[Step]:
        yield from self._credit()
        yield self._order_view()
        if sequence := max(self._sequences, default=0):
            yield self._customer_view(sequence)
            yield from self._cache(sequence)

    def _credit(self) -> Iterator[Step]:
        """Whether accounts holds credit exactly if the order is active."""
        make = partial(Step, kind="credit", service=OWNER)
        if self._away:
            yield make(what=f"{OWNER} holds or releases the credit", state=Outcome.UNKNOWN,
                       why=self._away)  # fmt: skip
            return
        held = self._reservation or {"status": "", "amount": None, "updated_at": None}
        status, amount = held["status"], held["amount"]
        at = read_time(held["updated_at"]) if held["updated_at"] else None
        if self._order.status is Status.PENDING:
            why = f"the saga hasn't applied the decision of {OWNER}" if status else ""
            yield make(what="the order is confirmed or rejected", state=Outcome.WAITS,
                       why=why or f"{OWNER} hasn't decided about the credit")  # fmt: skip
        elif self._order.status in ACTIVE:
            is_held = status == "RESERVED"
            yield make(
                what=f"{OWNER} holds {amount} for the order"
                if is_held
                else f"{OWNER} holds the credit of the order",
                state=Outcome.DONE if is_held else Outcome.UNKNOWN,
                at=at,
                why="" if is_held else "it has no such reservation: run manage.py reconcile",
            )
        elif status == "RESERVED" or not status:
            what = f"{OWNER} releases the credit of the order"
            why = f"it still holds {amount}" if status else "it hasn't seen the order"
            yield make(what=what, state=Outcome.WAITS, why=why)
        else:
            gave_back = f"{OWNER} released {amount}" if status == "RELEASED" and amount else ""
            yield make(what=gave_back or f"{OWNER} holds no credit for the order", at=at)

    def _order_view(self) -> Step:
        rows = OrderView.objects.using(router.db_for_write(OrderView)).filter(pk=self._order.id)
        shown = rows.values_list("version", flat=True).first()
        wanted = self._order.version
        return _up_to_date("order_view", LABEL, "view", shown, wanted)

    def _customer_view(self, wanted: int) -> Step:
        rows = CustomerView.objects.using(router.db_for_write(CustomerView))
        rows = rows.filter(pk=self._order.user_id)
        shown = rows.values_list("version", flat=True).first()
        if shown is None and self._customer is None:
            return Step(kind="view", service=LABEL, what="customer_view has no such customer")
        return _up_to_date("customer_view", LABEL, "view", shown, wanted)

    def _cache(self, wanted: int) -> Iterator[Step]:
        if self._customer is None:
            return
        cached = self._customer["cached_version"]
        if cached is None:
            yield Step(kind="cache", service=OWNER, what="the cache has no copy of the customer")
        else:
            yield _up_to_date("the cache", OWNER, "cache", cached, wanted)


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


def _way(place: Place | None, service: str) -> Iterator[Step]:
    """The steps from the outbox row to the stream."""
    if place is None:
        why = "the outbox has no such row: the database was restored, or lost it in a failover"
        yield Step(kind="row", service=service, what="outbox row", state=Outcome.UNKNOWN, why=why)
        return
    if place.row is None:
        what = "the outbox row is deleted, because every subscriber has confirmed it"
        yield Step(kind="row", service=service, what=what)
        return
    what = f"outbox row {place.row}, in the same transaction"
    yield Step(kind="row", service=service, what=what, at=place.time, id=str(place.row))
    if place.tick is None:
        why = f"no tick sees the row: the relay of {service} hasn't run since"
        yield Step(kind="tick", service=service, what="tick", state=Outcome.WAITS, why=why)
        return
    at = tracing.time_of(place.tick)
    yield Step(kind="tick", service=service, what=f"tick {place.tick}", at=at, id=str(place.tick))
    stream = f"{{{service}}}:events:{place.partition}"
    what = f"entry {place.entry} of {stream}"
    if place.published is None:
        state, why = Outcome.UNKNOWN, "the stream server doesn't answer"
    elif place.published:
        state, why = Outcome.DONE, ""
    else:
        state, why = Outcome.WAITS, f"the cursor of {service} is before the entry"
    yield Step(kind="entry", service=service, what=what, state=state, id=place.entry, why=why)


def _meaning(consumer: str, type_: str) -> str:
    return MEANINGS.get((consumer, type_)) or MEANINGS.get((consumer, ""), "applies the event")


def _behind(effect: Effect) -> str:
    at_least = "at least " if effect.behind and effect.behind >= tracing.COUNTED_EVENTS else ""
    waited = f", the oldest for {effect.behind_seconds:.0f} s" if effect.behind_seconds else ""
    return f"behind by {at_least}{effect.behind} in its partition{waited}"


def _up_to_date(name: str, service: str, kind: str, shown: int | None, wanted: int) -> Step:
    if shown is not None and shown >= wanted:
        return Step(kind=kind, service=service, what=f"{name} has version {shown}", id=str(shown))
    return Step(
        kind=kind,
        service=service,
        what=f"{name} has version {wanted}",
        state=Outcome.WAITS,
        why=f"it has version {shown}" if shown is not None else "it has no row",
    )


def _short(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "an unknown time"


def _time_of(text: str) -> datetime | None:
    """The time in a UUIDv7, in milliseconds (RFC 9562); None for any other text."""
    try:
        id_ = UUID(text)
    except ValueError:
        return None
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC) if id_.version == 7 else None
