"""The relay publishes committed events to the streams.

Several relays can run at the same time, and each can be frozen or killed at any point. Even then,
each event is published once and in order, because of ticks, deterministic entry ids, and the script
that compares the cursor. The advisory lock stops a second relay only to save work.
"""

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct

from .. import drivers, progress
from ..errors import CursorMoved, CursorUnknown, StreamDamaged, StreamsUnavailable
from ..pooling import check_direct
from ..streams import WHOLE, Streams, order
from ..streams.nudging import CHECKING_SECONDS
from ..tables import Tables, every
from . import origin, recovery, ticks
from .ticks import Row, Tick, Ticks, clock_ms

log = logging.getLogger(__name__)

NUDGE_WAIT_SECONDS = 1.0  # how long a lost nudge can delay an event
PAUSE_SECONDS = 0.004  # the shortest time between the starts of two drains
CHECK_SECONDS = 10.0  # between two checks of the stream server's setup

# The timeouts end the session of a frozen relay, which releases its lock. The planner settings make
# the two frequent statements use their indexes, even with poor statistics. With work_mem, a long
# backlog (ids and ctids of a million rows) is sorted in memory. At a stricter isolation
# level than the default, the statements would only fail more often.
SESSION = """
SET default_transaction_isolation = 'read committed';
SET idle_session_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
SET statement_timeout = 0;
SET synchronous_commit = on;
SET enable_seqscan = off;
SET enable_mergejoin = off;
SET enable_hashjoin = off;
SET max_parallel_workers_per_gather = 0;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
SET work_mem = '64MB'
"""


class Outcome(enum.Enum):
    """Why `run` returned."""

    ALREADY_RUNNING = "another relay of this service is running"
    LINGERED = "the relay has run for its full time"
    STOPPED = "the relay received a stop signal"


class Chunk(Struct, frozen=True, gc=False):
    """Some rows of one tick. `publish` adds them and moves the cursor to `at`, in one step."""

    at: str
    rows: int
    publish: Callable[[], None]


class Relay:
    """Publishes one service's outbox to its streams, over its own database connection.

    `_at` is the expected cursor. `_start` is the tick and the row after which the relay continues.
    """

    def __init__(
        self,
        tables: Tables,
        streams: Streams,
        connection: BaseDatabaseWrapper,
        *,
        clock_ms: Callable[[], int] = clock_ms,
    ) -> None:
        self.label = tables.label
        self._tables = tables
        self._streams = streams
        self._connection = connection
        self._ticks = Ticks(tables, connection, clock_ms=clock_ms)
        self._ticks.first()
        tables.check_partitions(streams.partitions, connection)
        system, timeline = origin.read(connection)
        self._origin = f"{system}.{timeline}"
        origin.keep(tables, connection, system)
        if self._ticks.has_foreign_xids():
            raise origin.restored(self.label)
        self._start = self._find_start()

    def drain(self) -> int:
        """Publish all rows that are committed now. Returns the number of rows sent.

        Raises StreamsUnavailable or Django's database errors when a server fails. No row is lost:
        the next drain sends the rest.
        """
        made = self._ticks.make()
        while True:
            try:
                sent = self._send(made)
                if not sent and self._at:
                    # Run the script without rows: it checks that all streams exist.
                    self._streams.publish(self.label, expected=self._at, at=self._at, tick=0)
                elif not sent:
                    self._publish_first()
            except CursorMoved:
                self._start = self._find_start()
            except StreamDamaged as exc:
                log.warning("%s; sending all rows of the database again", exc)
                self._streams.rewind(
                    self.label, expected=self._at, drop=exc.key if exc.foreign else None
                )
                self._start = self._find_start()
            else:
                return sent

    def _publish_first(self) -> None:
        """Set the cursor to the first tick if no row waits after a restamp or a lost stream.

        A cursor without origin says that the streams are sent again. Until the next event, requests
        that wait for their own write would wait in vain.
        """
        tick = self._ticks.get(self._start[0])
        if tick and tick.snapshot != ticks.GENESIS:
            self._publish(self._prepare(tick, [], expected=""))

    def _send(self, made: Tick | None) -> int:
        sent = 0
        tick_id, row = self._start
        if made and (made.prev, WHOLE) == self._start:
            return self._send_tick(made, after=0)  # the usual case: no other tick waits
        if row != WHOLE and (tick := self._ticks.get(tick_id)):
            sent += self._send_tick(tick, after=row)
        while tick := self._ticks.after(tick_id):
            sent += self._send_tick(tick, after=0)
            tick_id = tick.id
        return sent

    def _find_start(self) -> tuple[int, int]:
        """Where to continue in the chain of ticks: after which tick, and after which of its rows.

        If there is no cursor, or the cursor is below the floor, all rows in the database are sent
        again. If the cursor is ahead of the database, recovery runs first.
        """
        cursor = self._streams.cursor(self.label)
        self._at, self._floor = cursor.at, self._ticks.floor()
        first = (max(self._ticks.first(), self._floor), WHOLE)
        if not self._at:
            if self._ticks.last() > first[0]:
                log.info(
                    "the streams of %s have no cursor; sending all rows of the database again",
                    self.label,
                )
            return first
        tick_id, row = order(self._at)
        if tick_id < first[0]:  # also if its tick still exists: retention may have deleted its rows
            self._streams.rewind(self.label, expected=self._at)
            return self._find_start()
        if self._ticks.get(tick_id):
            return tick_id, row
        is_ours = self._origin.partition(".")[0] == cursor.origin.partition(".")[0]
        if is_ours and tick_id > self._ticks.last():
            recovery.resume(self._tables, self._ticks, self._streams, ahead=tick_id)
        resumed = self._ticks.resumed_from(tick_id) if is_ours else None
        if resumed is None:
            raise CursorUnknown(
                f"the streams of {self.label} are at {self._at}, a tick that its database "
                "doesn't have: the streams belong to another database; check both addresses"
            )
        return resumed, WHOLE

    def _send_tick(self, tick: Tick, *, after: int) -> int:
        with self._ticks.rows(tick, after=after) as chunks:
            chunk = next(chunks)
            if len(chunk) < ticks.CHUNK_ROWS:
                return self._publish(self._prepare(tick, chunk, expected=self._at))
            sent = 0
            # A backlog: while the stream server adds a chunk, the relay fetches and packs the next.
            with ThreadPoolExecutor(1, thread_name_prefix="sender") as sender:
                prepared = self._prepare(tick, chunk, expected=self._at)
                sending = sender.submit(self._publish, prepared)
                for following in chunks:
                    prepared = self._prepare(tick, following, expected=prepared.at)
                    sent += sending.result()
                    sending = sender.submit(self._publish, prepared)
                return sent + sending.result()

    def _prepare(self, tick: Tick, chunk: list[Row], *, expected: str) -> Chunk:
        """A chunk that moves the cursor from `expected`. A chunk that isn't full ends its tick."""
        complete = len(chunk) < ticks.CHUNK_ROWS
        at = f"{tick.id}-{WHOLE if complete else chunk[-1][0]}"
        rows = [row for row in chunk if row[0] not in tick.skip] if tick.skip else chunk
        publish = self._streams.prepare(
            self.label,
            expected=expected,
            at=at,
            tick=tick.id,
            rows=rows,
            snapshot=tick.snapshot if complete else "",
            origin=self._origin,
            floor=self._floor,
        )
        return Chunk(at, len(rows), publish)

    def _publish(self, chunk: Chunk) -> int:
        chunk.publish()
        progress.report(f"relay of {self.label}")  # a backlog has many chunks
        self._at, self._start = chunk.at, order(chunk.at)
        return chunk.rows


@contextmanager
def own_connection(tables: Tables) -> Iterator[BaseDatabaseWrapper]:
    """A separate database connection with the settings of SESSION. Raises PooledConnection."""
    connection = drivers.own_session(tables.connection)
    try:
        check_direct(connection)
        with connection.cursor() as cursor:
            cursor.execute(SESSION)
        yield connection
    finally:
        connection.close()


def run(
    tables: Tables,
    streams: Streams,
    *,
    stopping: threading.Event,
    linger_seconds: float = float("inf"),
    exclusive: bool = True,
) -> Outcome:
    """Drain at each nudge, at least once a second, for `linger_seconds` or until `stopping` is set.

    Returns immediately if another relay of the service has the lock and `exclusive` is true.
    Raises the errors of `Relay.drain`, and at the start or later StreamsMisconfigured.
    """
    deadline = time.monotonic() + linger_seconds
    streams.check()
    streams.check_rights(tables.label)
    _warn_of_shared_rights(streams)
    with own_connection(tables) as connection:
        if exclusive and not try_lock(connection, tables.label):
            return Outcome.ALREADY_RUNNING
        relay = Relay(tables, streams, connection)
        nudged_at = time.monotonic()  # the previous relay may have received a nudge and ended
        check_at = nudged_at + CHECK_SECONDS
        while not stopping.is_set():
            # Under load, all events of a pause get into one batch. A single event usually arrives
            # outside a pause, so the pause doesn't delay it.
            started = time.monotonic()
            if started >= check_at:
                streams.check()  # its administrator may have changed the server's setup
                check_at = started + CHECK_SECONDS
            sent = relay.drain()
            progress.report(f"relay of {tables.label}")
            stopping.wait(max(0.0, started + PAUSE_SECONDS - time.monotonic()))
            if started < nudged_at + CHECKING_SECONDS:
                continue  # writers skip nudges in this interval (nudging.py)
            if time.monotonic() >= deadline:
                return Outcome.LINGERED
            # The relay removes the nudge before it makes the next tick. If a writer sent no nudge
            # because one existed, that writer committed before the removal, so the tick sees its
            # rows. If this drain sent rows, the next drain starts without a nudge.
            if not sent and streams.wait_nudge(tables.label, timeout_seconds=NUDGE_WAIT_SECONDS):
                nudged_at = time.monotonic()
    return Outcome.STOPPED


def _warn_of_shared_rights(streams: Streams) -> None:
    """Log, once in a process, the services of other deployments whose streams this user may
    change: an intruder in this deployment could forge their events."""
    installed = {found.label for found in every()}
    for label in getattr(settings, "OUTBOX_PRODUCERS", ()):
        if label not in installed:
            with suppress(StreamsUnavailable):  # in a cluster, only the other service must wait
                _warn_if_writable(streams, label)


@cache
def _warn_if_writable(streams: Streams, label: str) -> None:
    if streams.can_write(label):
        log.warning(
            "the user in OUTBOX_STREAMS_URL may write the streams of %s; give each deployment "
            "a user of its own (`rules` in outbox/keys.py)",
            label,
        )


def try_lock(connection: BaseDatabaseWrapper, label: str) -> bool:
    """Acquire the advisory lock of the service's relay. Returns False if another session has it."""
    # Advisory locks are per database, not per schema, so the key contains the service's name.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"outbox.relay:{label}"]
        )
        return bool(cursor.fetchone()[0])


def unlock(connection: BaseDatabaseWrapper, label: str) -> None:
    """Release the lock of `try_lock` before the session ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [f"outbox.relay:{label}"]
        )
