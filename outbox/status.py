"""Reports the backlog of the outbox and of each consumer, and the age of each backlog."""

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from django.db import models
from django.utils import timezone

from . import consumer as consumers
from . import tables
from .consuming import parking
from .consuming.inbox import START, Inbox
from .envelope import Envelope
from .errors import MalformedEnvelope, StreamsMisconfigured, StreamsUnavailable
from .streams import WHOLE, Streams, described, order
from .tables import Tables

log = logging.getLogger(__name__)

COUNTED_ROWS = 1_000_000  # for a larger table PostgreSQL's estimate is reported


class OutboxReport(TypedDict):
    rows: int
    unpublished: int | None
    oldest_unpublished_seconds: float | None
    last_tick: int


class StreamsReport(TypedDict):
    entries: int | None
    cursor: str | None
    error: NotRequired[str]


class ConsumerReport(TypedDict):
    """`waits_for` is the command that a consumer below the floor needs, and '' for others."""

    lag_events: int | None
    lag_seconds: float | None
    parked: int
    waits_for: str


class SubscriberReport(TypedDict):
    """`silent_seconds` is the age of the last confirmation on the stream server, None if there is
    none or the server doesn't answer. `saved_seconds` is the age of the one in the schema."""

    confirmed: int | None
    silent_seconds: float | None
    saved_seconds: float | None


class ServiceReport(TypedDict):
    outbox: OutboxReport
    streams: StreamsReport
    consumers: dict[str, ConsumerReport]
    subscribers: dict[str, SubscriberReport]


class Report(TypedDict):
    services: dict[str, ServiceReport]


# A count of the rows of one week would exceed the statement timeout.
_ROWS = """
SELECT CASE WHEN reltuples > %(counted)s THEN reltuples
  ELSE (SELECT count(*) FROM (SELECT FROM {event} LIMIT %(at_most)s) few) END
FROM pg_class WHERE oid = %(event)s::regclass
"""

# The rows that the tick before the cursor's tick doesn't see, except the rows that were sent.
_UNPUBLISHED = """
SELECT count(*), min(id) FROM (
  SELECT id FROM (
    SELECT id, xid FROM {event} WHERE xid >= pg_snapshot_xmax(%(previous)s::pg_snapshot)
    UNION ALL
    SELECT e.id, e.xid FROM pg_snapshot_xip(%(previous)s::pg_snapshot) AS open (xid)
    JOIN {event} e ON e.xid = open.xid
  ) later WHERE NOT (id <= %(row)s AND pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot))
  {first}
) waiting
"""
# The oldest rows are among the first ones by this index. A table's order isn't the rows' age.
_FIRST = "ORDER BY xid LIMIT %(at_most)s"


def report(streams: Streams) -> Report:
    """The state of every installed service. If the stream server fails, all values that depend on
    it are None, and `streams.error` has the reason."""
    down: set[str] = set()
    services = {found.label: of_service(found, streams, down=down) for found in tables.every()}
    return {"services": services}


def of_service(
    found: Tables, streams: Streams, *, down: set[str], count_at_most: int | None = None
) -> ServiceReport:
    """The state of one service. With `count_at_most`, the lag of a consumer is counted up to about
    this number in each partition, else completely. Raises DatabaseError.

    In a cluster, one master can be down: then only the values that depend on it are None. The
    services whose streams don't answer within a second are added to `down`, so that a report of
    several services asks for the lag behind them only once."""
    at, error = "", None
    try:
        streams.ping(found.label)
        at = streams.cursor(found.label).at
        shown = at and described(at)
        of_streams = StreamsReport(entries=streams.entries(found.label), cursor=shown)
        down.discard(found.label)  # it answers again
    except (StreamsUnavailable, StreamsMisconfigured) as exc:
        error = str(exc)
        of_streams = StreamsReport(entries=None, cursor=None, error=error)
        down.add(found.label)
    known = error is None
    return ServiceReport(
        outbox=of_outbox(found, at, known=known),
        streams=of_streams,
        subscribers=of_subscribers(found, streams if known else None),
        consumers={
            consumer.name: of_consumer(consumer, streams, down=down, count_at_most=count_at_most)
            for consumer in consumers.every()
            if consumer.label == found.label
        },
    )


def of_outbox(
    found: Tables, at: str, *, known: bool, count_at_most: int | None = None
) -> OutboxReport:
    """The backlog of the outbox behind the cursor `at`, with counts up to `count_at_most`. Unless
    the cursor is `known`, what was published is unknown."""
    last_tick = found.rows(found.tick).order_by("-id").first()
    unpublished, oldest = _unpublished(found, at, count_at_most) if known else (None, None)
    return {
        "rows": _rows(found, count_at_most),
        "unpublished": unpublished,
        "oldest_unpublished_seconds": _age_seconds(found, oldest),
        "last_tick": last_tick.pk if last_tick else 0,
    }


def _rows(found: Tables, count_at_most: int | None) -> int:
    with found.connection.cursor() as cursor:
        event = found.quoted(found.event)
        counted = COUNTED_ROWS if count_at_most is None else count_at_most
        values: dict[str, str | int | None] = {
            "event": event,
            "counted": counted,
            "at_most": count_at_most,
        }
        cursor.execute(_ROWS.format(event=event), values)
        return int(cursor.fetchone()[0])


def of_subscribers(found: Tables, streams: Streams | None = None) -> dict[str, SubscriberReport]:
    """What each subscriber of the service has confirmed. `streams` is None if it is down."""
    rows = list(found.rows(found.subscription).order_by("name"))
    confirmed: dict[str, datetime] = {}
    if streams:
        with suppress(StreamsUnavailable, StreamsMisconfigured):
            confirmed = streams.confirmed_at(found.label, [row.name for row in rows])
    return {
        row.name: {
            "confirmed": row.confirmed,
            "silent_seconds": _seconds_since(confirmed.get(row.name)),
            "saved_seconds": _seconds_since(row.confirmed_at),
        }
        for row in rows
    }


def _seconds_since(moment: datetime | None) -> float | None:
    """With USE_TZ = False, Django returns times without a zone, in TIME_ZONE."""
    if moment is None:
        return None
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())


def _unpublished(found: Tables, at: str, at_most: int | None) -> tuple[int, int | None]:
    events, ticks = found.rows(found.event), found.rows(found.tick)
    tick_id, row = order(at) if at else (0, 0)
    tick = ticks.filter(pk=tick_id).first() if at else None
    if tick is None:
        oldest = events.order_by("id").values_list("pk", flat=True).first()
        return events[:at_most].count(), oldest
    previous = ticks.filter(pk=tick.prev or 0).first() or tick
    with found.connection.cursor() as cursor:
        cursor.execute(
            _UNPUBLISHED.format(
                event=found.quoted(found.event), first="" if at_most is None else _FIRST
            ),
            {
                "previous": previous.snapshot,
                "snapshot": tick.snapshot,
                "row": min(row, models.BigIntegerField.MAX_BIGINT),
                "at_most": at_most,
            },
        )
        waiting, oldest = cursor.fetchone()
    return int(waiting), oldest


def _age_seconds(found: Tables, row: int | None) -> float | None:
    if row is None:
        return None
    event = found.rows(found.event).filter(pk=row).first()
    try:
        return _seconds_since(Envelope.decode(event.body).time if event else None)
    except MalformedEnvelope:
        return None


def of_consumer(
    consumer: consumers.Consumer,
    streams: Streams,
    *,
    down: set[str],
    count_at_most: int | None = None,
) -> ConsumerReport:
    """The lag is None if a producer's streams don't answer. Such producers are added to `down`, and
    aren't asked again."""
    lags, is_below_floor = [], False
    for producer in set(consumer.producers) - down:
        try:
            streams.ping(producer)
            lags.append(lag_behind(consumer, producer, streams, count_at_most=count_at_most))
            is_below_floor |= _is_below_floor(consumer, producer, streams)
        except (StreamsUnavailable, StreamsMisconfigured) as exc:
            log.warning("the lag of %s behind %s is unknown: %s", consumer.name, producer, exc)
            down.add(producer)
    known = down.isdisjoint(consumer.producers)
    return {
        "lag_events": sum(events for events, _ in lags) if known else None,
        "lag_seconds": max((seconds for _, seconds in lags), default=0.0) if known else None,
        "parked": sum(found.count() for found in parking.of(consumer)),
        "waits_for": f"manage.py outbox backfill --adopt {consumer.name}" if is_below_floor else "",
    }


def _is_below_floor(consumer: consumers.Consumer, producer: str, streams: Streams) -> bool:
    floor = streams.cursor(producer).floor
    inbox = Inbox(consumer.tables, consumer=consumer.name, producer=producer)
    positions = dict.fromkeys(range(streams.partitions), START) | inbox.stored()
    return bool(floor) and any(order(entry) < (floor, WHOLE) for entry in positions.values())


def lag_behind(
    consumer: consumers.Consumer,
    producer: str,
    streams: Streams,
    *,
    count_at_most: int | None = None,
) -> tuple[int, float]:
    """The number of the producer's entries that the consumer hasn't applied, and the age of the
    oldest of them in seconds, 0 for none."""
    inbox = Inbox(consumer.tables, consumer=consumer.name, producer=producer)
    after = dict.fromkeys(range(streams.partitions), START) | inbox.stored()
    number, first = streams.count_after(producer, after, at_most=count_at_most)
    waited = max(0.0, time.time() - order(first)[0] / 1000) if first else 0.0
    return number, round(waited, 3)
