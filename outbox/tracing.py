"""Finds where an event is: its row, its tick, its stream entry, and what each consumer did with it.

Each fact comes from the row or the stream that decides it, so a trace needs no table of its own. An
event is found by the transaction that recorded it, because the outbox has an index on `xid`.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, partial

from msgspec import Struct

from . import consumer as consumers
from . import streams
from .consuming.inbox import START, stored
from .consuming.parking import Parking
from .envelope import Envelope
from .errors import MalformedEnvelope, StreamsMisconfigured, StreamsUnavailable
from .models import AbstractParkedEvent
from .partitions import partition_count, partition_of
from .streams import Cursor, order
from .tables import Tables

COUNTED_EVENTS = 1000  # a longer lag is counted in steps of this size, up to one step

# `strpos` only sees the rows of these transactions: the index on xid selects them.
_ROWS = """
SELECT id, xid::text, partition, body FROM {event}
WHERE xid = ANY (%(xids)s::xid8[]) AND strpos(body, %(subject)s) > 0 ORDER BY id
"""

# Each tick sees all that the tick before it sees. So a binary search over the ids finds the first
# tick that sees a transaction, in about forty index probes. Clocks don't matter.
_FIRST_TICK = """
WITH RECURSIVE search (below, upto) AS (
  SELECT oldest.id, newest.id
  FROM (SELECT id FROM {tick} ORDER BY id LIMIT 1) oldest,
       (SELECT id, snapshot FROM {tick} ORDER BY id DESC LIMIT 1) newest
  WHERE pg_visible_in_snapshot(%(xid)s::xid8, newest.snapshot)
  UNION ALL
  SELECT CASE WHEN sees THEN below ELSE middle END, CASE WHEN sees THEN middle ELSE upto END
  FROM (SELECT below, upto, (below + upto) / 2 AS middle FROM search WHERE upto - below > 1) halves,
  LATERAL (
    SELECT pg_visible_in_snapshot(%(xid)s::xid8, snapshot) AS sees
    FROM {tick} WHERE id <= middle ORDER BY id DESC LIMIT 1
  ) probe
)
SELECT (SELECT max(id) FROM {tick} WHERE id <= upto) FROM search ORDER BY upto - below LIMIT 1
"""
_IS_PRUNED = """
SELECT pg_visible_in_snapshot(%(xid)s::xid8, snapshot) FROM {tick} ORDER BY id LIMIT 1
"""


class Place(Struct, frozen=True, kw_only=True):
    """Where one event is. `row` is None if retention has deleted the row; then every subscriber has
    confirmed the event. `tick` is None until a tick sees the row. `published` is None if the stream
    server doesn't answer."""

    type: str
    key: str
    subject: str
    sequence: int
    partition: int
    published: bool | None
    id: str = ""
    time: datetime | None = None
    row: int | None = None
    tick: int | None = None

    @property
    def producer(self) -> str:
        return self.type.partition(".")[0]

    @property
    def entry(self) -> str:
        """The id of the stream entry; '' while no tick sees the row, or if the row is deleted."""
        return f"{self.tick}-{self.row}" if self.tick and self.row else ""


class State(StrEnum):
    """What a consumer did with an event."""

    APPLIED = "applied"
    BEHIND = "behind"  # published, and the consumer's position is before it
    UNPUBLISHED = "unpublished"
    PARKED = "parked"  # the event failed
    QUEUED = "queued"  # parked, because an earlier event of its key is parked
    DROPPED = "dropped"
    UNKNOWN = "unknown"  # the stream server doesn't answer


class Effect(Struct, frozen=True, kw_only=True):
    """What one consumer did with an event. `behind` counts the entries of the partition after the
    consumer's position, up to COUNTED_EVENTS; `behind_seconds` is the age of the oldest one."""

    service: str
    consumer: str
    state: State
    position: str = START
    behind: int | None = None
    behind_seconds: float | None = None
    since: datetime | None = None  # when it was parked or dropped
    error: str = ""


class Tracer:
    """Traces events of one producer. Reads its cursor once."""

    def __init__(self, producer: str) -> None:
        self.producer = producer

    @cached_property
    def cursor(self) -> Cursor | None:
        """The producer's cursor; None if the stream server doesn't answer."""
        try:
            return streams.connect().peek_cursor(self.producer)
        except (StreamsUnavailable, StreamsMisconfigured):
            return None

    def locate(
        self, tables: Tables, *, xids: Collection[int], subject: str
    ) -> list[tuple[Place, Envelope]]:
        """The events that these transactions recorded and that contain the text `subject`, in the
        order of their rows. `tables` are the producer's."""
        with tables.connection.cursor() as cursor:
            cursor.execute(
                _ROWS.format(event=tables.quoted(tables.event)),
                {"xids": [str(xid) for xid in xids], "subject": subject},
            )
            rows = cursor.fetchall()
        found = []
        for row, xid, partition, body in rows:
            with suppress(MalformedEnvelope):
                envelope = Envelope.decode(body)
                tick = _first_tick(tables, xid)
                found.append((self._place(envelope, row, partition, tick), envelope))
        return found

    def _place(self, envelope: Envelope, row: int, partition: int, tick: int | None) -> Place:
        return Place(
            id=str(envelope.id),
            type=envelope.type,
            key=envelope.partitionkey,
            subject=envelope.subject,
            sequence=envelope.sequence,
            time=envelope.time,
            partition=partition,
            row=row,
            tick=tick,
            published=self._is_published(tick, row),
        )

    def _is_published(self, tick: int | None, row: int) -> bool | None:
        if tick is None:
            return False
        if self.cursor is None:
            return None
        return bool(self.cursor.at) and (tick, row) <= order(self.cursor.at)

    def effects(self, place: Place, *, label: str) -> Iterator[Effect]:
        """Yield what each consumer of the service `label` did with the event, except consumers that
        ignore the event's type."""
        for consumer in consumers.every():
            handler = consumer.handlers.get(place.type)
            if consumer.label == label and handler not in (None, consumers.ignore):
                yield self._effect(consumer, place)

    def _effect(self, consumer: consumers.Consumer, place: Place) -> Effect:
        tables, name = consumer.tables, consumer.name
        # First the position: an event that is parked between the two reads has moved it.
        positions = stored(tables, consumer=name, producer=self.producer, using=tables.alias)
        at = positions.get(place.partition, START)
        effect = partial(Effect, service=consumer.label, consumer=name, position=at)
        if parked := _parked(Parking(tables, consumer=name, producer=self.producer), place):
            since = parked.dropped_at or parked.parked_at
            return effect(state=_state_of(parked), since=since, error=parked.error)
        if place.row is None or (place.entry and order(at) >= order(place.entry)):
            return effect(state=State.APPLIED)
        if place.published is False:
            return effect(state=State.UNPUBLISHED)
        if place.published is None:
            return effect(state=State.UNKNOWN)
        try:
            behind, oldest = streams.connect().count_after(
                self.producer, {place.partition: at}, at_most=COUNTED_EVENTS
            )
        except (StreamsUnavailable, StreamsMisconfigured):
            return effect(state=State.UNKNOWN)
        seconds = max(0.0, time.time() - order(oldest)[0] / 1000) if oldest else 0.0
        return effect(state=State.BEHIND, behind=behind, behind_seconds=seconds)


def pruned(tables: Tables, xid: int, *, type: str, key: str, sequence: int) -> Place | None:  # noqa: A002
    """The place of an event whose row retention has deleted; None if it isn't deleted or if the
    database has lost the row otherwise."""
    with tables.connection.cursor() as cursor:
        cursor.execute(_IS_PRUNED.format(tick=tables.quoted(tables.tick)), {"xid": str(xid)})
        found = cursor.fetchone()
    if not found or not found[0]:
        return None
    partition = partition_of(key, partitions=partition_count())
    return Place(
        type=type, key=key, subject=key, sequence=sequence, partition=partition, published=True
    )


def _first_tick(tables: Tables, xid: str) -> int | None:
    """The first tick that sees the transaction; None if no tick sees it."""
    with tables.connection.cursor() as cursor:
        cursor.execute(_FIRST_TICK.format(tick=tables.quoted(tables.tick)), {"xid": xid})
        found = cursor.fetchone()
    return None if found is None else int(found[0])


def _parked(parking: Parking, place: Place) -> AbstractParkedEvent | None:
    rows = parking.stored.filter(partition=place.partition, key=place.key)
    if place.entry:
        return rows.filter(entry=place.entry).first()
    if place.row is not None:
        return None
    alike = rows.filter(type=place.type, body__contains=f'"sequence":{place.sequence},')
    return alike.first()


def _state_of(parked: AbstractParkedEvent) -> State:
    if parked.dropped_at:
        return State.DROPPED
    return State.PARKED if parked.error else State.QUEUED


def time_of(tick: int) -> datetime:
    """The time at which a tick was made: its id is a number of milliseconds."""
    return datetime.fromtimestamp(tick / 1000, UTC)
