"""Finds, retries and drops parked sequences for the pages below /flow/parked/.

Each request reads a bounded number of sequences, however many are parked. A search or an action
that isn't complete continues after the last sequence that it read.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import BadRequest, ObjectDoesNotExist

from outbox import consumer as consumers
from outbox.consumer import Consumer
from outbox.consuming.parking import Parking
from outbox.envelope import Envelope
from outbox.errors import MalformedEnvelope, OutboxError
from outbox.models import AbstractParkedEvent
from outbox.partitions import partition_count, partition_of

from .errors import group_of, kind_of

READ_AT_MOST: Final = 5000  # sequences in one search or action
READ_AT_ONCE: Final = 500
BEGIN: Final = (-1, "")
SHOWN: Final = 50
ACTED_AT_MOST: Final = 500  # sequences in one request
BUDGET_SECONDS: Final = 10.0
COUNT_AT_MOST: Final = 1000  # events of one sequence
LARGEST: Final = 2**63 - 1  # an id


@dataclass(frozen=True, slots=True)
class Place:
    """Where the events of one producer are parked for one consumer."""

    consumer: Consumer
    producer: str

    @property
    def name(self) -> str:
        return f"{self.consumer.label}:{self.consumer.name}:{self.producer}"

    @property
    def parking(self) -> Parking:
        found = self.consumer
        return Parking(found.tables, consumer=found.name, producer=self.producer)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A parked sequence by its first event."""

    place: Place
    head: AbstractParkedEvent

    @property
    def id(self) -> str:
        return f"{self.place.name}:{self.head.partition}:{self.head.key}"

    @property
    def kind(self) -> str:
        return kind_of(self.head.error)

    @property
    def group(self) -> str:
        consumer = self.place.consumer
        return group_of(consumer.label, consumer.name, self.place.producer, self.kind)

    @property
    def events(self) -> str:
        rows = self.place.parking.rows.filter(partition=self.head.partition, key=self.head.key)
        number = rows.order_by()[:COUNT_AT_MOST].count()
        return f"≥ {number}" if number == COUNT_AT_MOST else str(number)

    @property
    def model(self) -> str:
        """The name of the model, for the admin's page of the first event."""
        return str(self.head._meta.model_name)

    @property
    def order_id(self) -> UUID | None:
        """The order that the first event is about; None if it is about none."""
        try:
            envelope = Envelope.decode(self.head.body)
            is_of_order = envelope.type.startswith("orders.order.")
            return UUID(envelope.subject if is_of_order else envelope.data["order_id"])
        except (MalformedEnvelope, ObjectDoesNotExist, LookupError, ValueError, AttributeError):
            return None  # also if the sequence isn't parked any more

    def has(self, words: str) -> bool:
        head = self.head
        return any(words in text.lower() for text in (head.key, head.type, head.error))


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a search. `after` continues it; empty at the end."""

    sequences: list[Sequence]
    after: str


def places() -> list[Place]:
    """In the order of a search."""
    return [
        Place(consumer, producer)
        for consumer in consumers.every()
        if consumer.label in settings.SERVICES
        for producer in consumer.producers
    ]


def place_of(name: str) -> Place:
    """Raises BadRequest."""
    for place in places():
        if place.name == name:
            return place
    raise BadRequest(f"nothing is parked at {name!r}")


def sequence_of(id_: str) -> Sequence | None:
    """The sequence of this id; None if it is no longer parked. Raises BadRequest."""
    place, partition, key = _parsed(id_)
    head = place.parking.rows.filter(partition=partition, key=key).order_by("id").first()
    return Sequence(place, head) if head else None


def _parsed(id_: str) -> tuple[Place, int, str]:
    label, consumer, producer, partition, key = (*id_.split(":", 4), *[""] * 5)[:5]
    number = whole(partition, at_most=partition_count() - 1)
    if number is None or "\0" in key:
        raise BadRequest(f"{id_!r} is no parked sequence")
    return place_of(f"{label}:{consumer}:{producer}"), number, key


def whole(text: str, *, at_most: int) -> int | None:
    """The number in a text of ASCII digits; None for another text, or above `at_most`."""
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(at_most)):
        return None
    return int(text) if int(text) <= at_most else None


def search(*, words: str = "", group: str = "", after: str = "") -> Found:
    """The next sequences of a group, or whose key, type or error contains the words. A sequence
    whose whole key is `words` comes first."""
    words = words.strip()
    first = [] if after or group else list(_with_key(words))
    known = {sequence.id for sequence in first}

    def is_wanted(sequence: Sequence) -> bool:
        if group:
            return sequence.group == group
        return sequence.has(words.lower()) and sequence.id not in known

    found = _filtered(_walk(group=group, after=after), is_wanted, at_most=SHOWN)
    return Found([*first, *found.sequences], found.after)


def _filtered(
    sequences: Iterable[Sequence], is_wanted: Callable[[Sequence], bool], *, at_most: int
) -> Found:
    found: list[Sequence] = []
    for number, sequence in enumerate(sequences, start=1):
        if is_wanted(sequence):
            found.append(sequence)
        if number == READ_AT_MOST or len(found) == at_most:
            return Found(found, sequence.id)
    return Found(found, "")


def _with_key(key: str) -> Iterator[Sequence]:
    for place in places() if key else ():
        partition = partition_of(key, partitions=partition_count())
        head = place.parking.rows.filter(partition=partition, key=key).order_by("id").first()
        if head:
            yield Sequence(place, head)


def _walk(*, group: str = "", after: str = "") -> Iterator[Sequence]:
    """The sequences after an id, place by place; with a group, only those at its place."""
    chosen = [place_of(group.rpartition(":")[0])] if group else places()
    start: tuple[int, str] | None = BEGIN
    if after:
        place, partition, key = _parsed(after)
        start = partition, key
        names = [each.name for each in chosen]
        if place.name not in names:
            raise BadRequest(f"{after!r} isn't in the group {group!r}")
        chosen = chosen[names.index(place.name) :]
    for place in chosen:
        while start is not None:
            heads = list(place.parking.heads(after=start, limit=READ_AT_ONCE))
            yield from (Sequence(place, head) for head in heads)
            is_full = len(heads) == READ_AT_ONCE
            start = (heads[-1].partition, heads[-1].key) if is_full else None
        start = BEGIN


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did. `after` continues it; empty if no sequence is left."""

    sequences: int
    events: int
    errors: list[str]
    after: str


def newest(place: Place) -> int:
    """The id of the newest parked event at this place: an action leaves what arrives later."""
    rows = place.consumer.tables.rows(place.consumer.tables.parked)
    return rows.order_by("-id").values_list("pk", flat=True).first() or 0


def chosen(*, group: str = "", sequence: str = "", after: str = "", upto: int) -> Found:
    """The sequences of an action, up to ACTED_AT_MOST, that began up to the id `upto`."""
    if sequence:
        found = sequence_of(sequence)
        return Found([found] if found else [], "")

    def is_wanted(each: Sequence) -> bool:
        return each.group == group and each.head.pk <= upto

    return _filtered(_walk(group=group, after=after), is_wanted, at_most=ACTED_AT_MOST)


def act(verb: str, user: Any, *, reason: str = "", upto: int, **selection: str) -> Done:
    """Retry or drop the chosen sequences, each in its own transactions and with its own entry in
    the admin's log, for at most BUDGET_SECONDS."""
    deadline = time.monotonic() + BUDGET_SECONDS
    found = chosen(upto=upto, **selection)
    events = 0
    errors: list[str] = []
    for number, sequence in enumerate(found.sequences, start=1):
        if verb == "retry":
            applied, error = _retry(sequence, user)
        else:
            applied, error = _drop(sequence, user, reason=reason, upto=upto)
        events += applied
        errors += [error] if error else []
        if time.monotonic() > deadline and number < len(found.sequences):
            return Done(number, events, errors, sequence.id)
    return Done(len(found.sequences), events, errors, found.after)


def _retry(sequence: Sequence, user: Any) -> tuple[int, str]:
    head, place = sequence.head, sequence.place
    done = place.parking.retry(place.consumer, partition=head.partition, key=head.key)
    text = f"Retried: {done.applied} applied" + (f"; stopped: {done.error}" if done.error else "")
    _log(sequence, user, text)
    return done.applied, f"{_named(sequence)}: {done.error}" if done.error else ""


def _drop(sequence: Sequence, user: Any, *, reason: str, upto: int) -> tuple[int, str]:
    head, place = sequence.head, sequence.place
    try:
        dropped = place.parking.drop(
            place.consumer,
            partition=head.partition,
            key=head.key,
            upto=upto,
            reason=reason,
            by=user.get_username(),
        )
    except OutboxError as exc:
        return 0, f"{_named(sequence)}: {exc}"
    if dropped:
        _log(sequence, user, f"{len(dropped)} dropped, up to id {dropped[-1]}: {reason}")
    return len(dropped), ""


def _named(sequence: Sequence) -> str:
    return f"{sequence.place.consumer.name}, {sequence.head.key or 'without a key'}"


def _log(sequence: Sequence, user: Any, text: str) -> None:
    LogEntry.objects.log_actions(user.pk, [sequence.head], CHANGE, text, single_object=True)
