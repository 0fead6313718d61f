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
from .publishing.retention import FLOOR
from .streams import WHOLE, Cursor, order
from .tables import Tables

COUNTED_EVENTS = 1000  # a longer lag is counted in steps of this size, up to one step

# `strpos` only sees the rows of these transactions: the index on xid selects them.
_ROWS = """
SELECT id, xid::text, partition, body FROM {event}
WHERE xid = ANY (%(xids)s::xid8[]) AND strpos(body, %(text)s) > 0 ORDER BY id
"""

# Each tick sees all that the tick before it sees. So a binary search over the ids finds the first
# tick that sees a transaction, in about forty index probes. Clocks don't matter. A tick that a
# failover made skips the rows that were sent under lost ticks.
_FIRST_TICK = """
WITH RECURSIVE search (below, upto) AS (
  SELECT oldest.id - 1, newest.id
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
SELECT id, coalesce(%(row)s = ANY (skip), false) FROM {tick} WHERE id = (
  SELECT (SELECT max(id) FROM {tick} WHERE id <= upto) FROM search ORDER BY upto - below LIMIT 1
)
"""

# Retention deletes the rows that the tick of the floor sees. A restamp leaves a single, later tick.
_PRUNED_BEFORE = """
SELECT id FROM (
  SELECT id, snapshot FROM {tick}
  WHERE id >= coalesce((SELECT value::bigint FROM {state} WHERE name = %(floor)s), 0)
  ORDER BY id LIMIT 1
) oldest WHERE pg_visible_in_snapshot(%(xid)s::xid8, snapshot)
"""


class Place(Struct, frozen=True, kw_only=True):
    """Where one event is. `tick` is the first tick that sees its row, None until there is one. If
    retention or a restamp has deleted the row, `row` is None, and `tick` is a tick that sees it.
    If the database has no row otherwise, both are None. `published` is None if the stream server
    doesn't answer. `text` is in this event, and in no other event of the same type and key."""

    type: str
    key: str
    text: str
    sequence: int
    partition: int
    published: bool | None
    id: str = ""
    time: datetime | None = None
    row: int | None = None
    tick: int | None = None
    is_skipped: bool = False  # it was sent under an earlier tick, which a failover lost

    @property
    def producer(self) -> str:
        return self.type.partition(".")[0]

    @property
    def is_lost(self) -> bool:
        """Whether nothing is known of the event's row."""
        return self.row is None and self.tick is None

    @property
    def entry(self) -> str:
        """The id of the stream entry; '' if it isn't known, or there is none yet."""
        return f"{self.tick}-{self.row}" if self.tick and self.row and not self.is_skipped else ""

    @property
    def end(self) -> str:
        """A consumer at this position, or after it, has read the event; '' while no tick sees it.
        Its entry is here or earlier."""
        return f"{self.tick}-{self.row or WHOLE}" if self.tick else ""


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
    """Traces events of one producer. Reads its cursor, and each consumer's positions, once."""

    def __init__(self, producer: str) -> None:
        self.producer = producer
        self._positions: dict[str, dict[int, str]] = {}  # by consumer

    @cached_property
    def cursor(self) -> Cursor | None:
        """The producer's cursor; None if the stream server doesn't answer."""
        try:
            return streams.connect().peek_cursor(self.producer)
        except (StreamsUnavailable, StreamsMisconfigured):
            return None

    def locate(
        self, tables: Tables, *, xids: Collection[int], text: str
    ) -> list[tuple[Place, Envelope]]:
        """The events that these transactions recorded and that contain the text, in the order of
        their rows. `tables` are the producer's."""
        with tables.connection.cursor() as cursor:
            cursor.execute(
                _ROWS.format(event=tables.quoted(tables.event)),
                {"xids": [str(xid) for xid in xids], "text": text},
            )
            rows = cursor.fetchall()
        found = []
        for row, xid, partition, body in rows:
            with suppress(MalformedEnvelope):
                envelope = Envelope.decode(body)
                tick, is_skipped = _first_tick(tables, xid, row)
                place = Place(
                    id=str(envelope.id),
                    type=envelope.type,
                    key=envelope.partitionkey,
                    text=text,
                    sequence=envelope.sequence,
                    time=envelope.time,
                    partition=partition,
                    row=row,
                    tick=tick,
                    is_skipped=is_skipped,
                    published=is_skipped or self._is_published(tick, row),
                )
                found.append((place, envelope))
        return found

    def _is_published(self, tick: int | None, row: int) -> bool | None:
        if tick is None:
            return False
        if self.cursor is None:
            return None
        return bool(self.cursor.at) and (tick, row) <= order(self.cursor.at)

    def effects(self, place: Place, *, label: str) -> Iterator[Effect]:
        """Yield what each consumer of the service `label` did with the event, except consumers that
        ignore the event's type; nothing if the event is lost."""
        for consumer in consumers.every() if not place.is_lost else ():
            # A consumer that doesn't list the type parks the event.
            is_read = consumer.label == label and self.producer in consumer.producers
            if is_read and consumer.handlers.get(place.type) is not consumers.ignore:
                yield self._effect(consumer, place)

    def _effect(self, consumer: consumers.Consumer, place: Place) -> Effect:
        tables, name = consumer.tables, consumer.name
        # First the position: an event that is parked between the two reads has moved it.
        if name not in self._positions:
            self._positions[name] = stored(
                tables, consumer=name, producer=self.producer, using=tables.alias
            )
        at = self._positions[name].get(place.partition, START)
        effect = partial(Effect, service=consumer.label, consumer=name, position=at)
        if parked := _parked(Parking(tables, consumer=name, producer=self.producer), place):
            since = parked.dropped_at or parked.parked_at
            return effect(state=_state_of(parked), since=since, error=parked.error)
        if place.end and order(at) >= order(place.end):
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


def without_row(
    tables: Tables,
    xid: int,
    *,
    type: str,  # noqa: A002
    key: str,
    text: str,
    sequence: int = 0,
    time: datetime | None = None,
) -> Place:
    """The place of an event of this transaction that has no row: retention or a restamp has deleted
    the row, or it is lost."""
    with tables.connection.cursor() as cursor:
        cursor.execute(
            _PRUNED_BEFORE.format(
                tick=tables.quoted(tables.tick), state=tables.quoted(tables.state)
            ),
            {"xid": str(xid), "floor": FLOOR},
        )
        found = cursor.fetchone()
    return Place(
        type=type,
        key=key,
        text=text,
        sequence=sequence,
        time=time,
        partition=partition_of(key, partitions=partition_count()),
        tick=found[0] if found else None,
        published=True,
    )


def _first_tick(tables: Tables, xid: str, row: int) -> tuple[int | None, bool]:
    """The first tick that sees the transaction, None if no tick sees it; and whether this tick
    skips the row."""
    with tables.connection.cursor() as cursor:
        cursor.execute(
            _FIRST_TICK.format(tick=tables.quoted(tables.tick)), {"xid": xid, "row": row}
        )
        found = cursor.fetchone()
    return (None, False) if found is None else (int(found[0]), found[1])


def _parked(parking: Parking, place: Place) -> AbstractParkedEvent | None:
    stored = parking.stored.filter(partition=place.partition)
    if not place.end:
        return None
    if place.entry:
        return stored.filter(entry=place.entry).first()
    # The entry isn't known. The parked and the dropped events of a key have an index each.
    alike = {"entry__endswith": f"-{place.row}"} if place.row else {"body__contains": place.text}
    of_type = stored.filter(key=place.key, type=place.type, **alike)
    halves = [of_type.filter(dropped_at__isnull=parked)[:1] for parked in (True, False)]
    return next((found for half in halves for found in half), None)


def _state_of(parked: AbstractParkedEvent) -> State:
    if parked.dropped_at:
        return State.DROPPED
    return State.PARKED if parked.error else State.QUEUED


def time_of(tick: int) -> datetime:
    """The time at which a tick was made: its id is a number of milliseconds."""
    return datetime.fromtimestamp(tick / 1000, UTC)
