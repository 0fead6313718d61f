"""The relay: publishes what was committed, as long as it is let to.

Any number may run at once, be frozen or killed anywhere: ticks, deterministic entry ids and
the script's compare keep every event once and in order. One at a time (an advisory lock) is
economy, not correctness.
"""

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct

from ..errors import CursorMoved, CursorUnknown, DatabaseDiffers, RestoredDatabase, StreamDamaged
from ..streams import WHOLE, Streams, order
from ..streams.nudging import LOOKING_SECONDS
from ..tables import Tables
from . import recovery
from . import ticks as ticking
from .ticks import Row, Tick, Ticks, clock_ms

log = logging.getLogger(__name__)

NUDGE_SECONDS = 1.0  # how long a lost nudge can delay an event
AGAIN_SECONDS = 0.004  # from the begin of one look to the next

OTHER_PARTITIONS = (
    "{label} has {found} partitions and OUTBOX_PARTITIONS is {value}: a key would change its "
    "partition, and lose its order"
)
OTHER_SYSTEM = (
    "the database of {label} was restored on another server: its rows and ticks speak of "
    "transactions that this one doesn't know; see manage.py outbox restamp"
)

# A frozen relay must not keep the others out: the server ends its session, and so its lock.
# The plans of the two statements that matter stay on the index whatever the statistics say, and
# the one sort of a long backlog (ids and places of a million rows) stays in memory.
SESSION = """
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


class Ended(enum.Enum):
    """Why `run` returned."""

    TAKEN = "another relay of this service is running"
    LINGERED = "its time is up"
    STOPPED = "it was told to stop"


class Chunk(Struct, frozen=True, gc=False):
    """Rows of one tick that are published in one step, after which the cursor is `at`."""

    at: str
    rows: int
    publish: Callable[[], None]


class Relay:
    """Publishes one service's outbox to its streams, over its own database connection."""

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
        system, timeline = self._read_system()
        self._origin = f"{system}.{timeline}"
        self._check_kept("partitions", str(streams.partitions), OTHER_PARTITIONS)
        self._check_kept("system", system, OTHER_SYSTEM)
        if self._ticks.has_foreign_xids():
            raise RestoredDatabase(OTHER_SYSTEM.format(label=self.label))
        self._begin = self._find_begin()

    def drain(self) -> int:
        """Publish all that is committed by now. Returns the number of rows sent.

        Raises StreamsUnavailable or Django's database errors when a server goes: nothing is
        lost, whoever drains next goes on.
        """
        made = self._ticks.make()
        while True:
            try:
                sent = self._send(made)
                if not sent and self._at:
                    # Nothing to send: let the script look whether the streams are all there.
                    self._streams.publish(self.label, expected=self._at, at=self._at, tick=0)
            except CursorMoved:
                self._begin = self._find_begin()
            except StreamDamaged as exc:
                log.warning("%s; sending again what the database still has", exc)
                self._streams.rewind(
                    self.label, expected=self._at, drop=exc.key if exc.foreign else None
                )
                self._begin = self._find_begin()
            else:
                return sent

    def _send(self, made: Tick | None) -> int:
        sent = 0
        tick_id, row = self._begin
        if made and (made.prev, WHOLE) == self._begin:
            return self._send_tick(made, after=0)  # as nearly always: nothing else waited
        if row != WHOLE and (tick := self._ticks.get(tick_id)):
            sent += self._send_tick(tick, after=row)
        while tick := self._ticks.after(tick_id):
            sent += self._send_tick(tick, after=0)
            tick_id = tick.id
        return sent

    def _find_begin(self) -> tuple[int, int]:
        """Where in the chain of ticks to go on: the tick, and the row in it that was sent last.

        Without a cursor, or with one from before the floor, all that the database still has is
        sent again. A cursor ahead of the database is mended first (see `recovery`).
        """
        cursor = self._streams.cursor(self.label)
        self._at, self._floor = cursor.at, self._ticks.floor()
        first = (max(self._ticks.first(), self._floor), WHOLE)
        if not self._at:
            return first
        tick_id, row = order(self._at)
        if self._ticks.get(tick_id):
            return tick_id, row
        if tick_id < first[0]:
            self._streams.rewind(self.label, expected=self._at)
            return self._find_begin()
        ours = self._origin.partition(".")[0] == cursor.origin.partition(".")[0]
        if ours and tick_id > self._ticks.last():
            recovery.resume(self._tables, self._ticks, self._streams, ahead=tick_id)
        bridge = self._ticks.bridge(tick_id) if ours else None
        if bridge is None:
            raise CursorUnknown(
                f"the streams of {self.label} are at {self._at}, a tick that its database "
                "doesn't have: they belong to another database"
            )
        return bridge, WHOLE

    def _send_tick(self, tick: Tick, *, after: int) -> int:
        with self._ticks.rows(tick, after=after) as chunks:
            chunk = next(chunks)
            if len(chunk) < ticking.CHUNK_ROWS:
                return self._publish(self._prepare(tick, chunk, expected=self._at))
            sent = 0
            # A backlog: while the stream server takes one chunk, the next is fetched and prepared.
            with ThreadPoolExecutor(1, thread_name_prefix="sender") as sender:
                prepared = self._prepare(tick, chunk, expected=self._at)
                sending = sender.submit(self._publish, prepared)
                for following in chunks:
                    prepared = self._prepare(tick, following, expected=prepared.at)
                    sent += sending.result()
                    sending = sender.submit(self._publish, prepared)
                return sent + sending.result()

    def _prepare(self, tick: Tick, chunk: list[Row], *, expected: str) -> Chunk:
        """One chunk of the tick, to follow what was `expected`. One that isn't full ends it."""
        complete = len(chunk) < ticking.CHUNK_ROWS
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
        self._at, self._begin = chunk.at, order(chunk.at)
        return chunk.rows

    def _check_kept(self, name: str, value: str, otherwise: str) -> None:
        """What this schema's state says under `name` is `value`, from now on if it wasn't kept."""
        state = self._connection.ops.quote_name(self._tables.state._meta.db_table)
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {state} (name, value) VALUES (%s, %s) "  # noqa: S608
                "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING value",
                [name, value],
            )
            (found,) = cursor.fetchone()
        if found != value:
            told = otherwise.format(label=self.label, found=found, value=value)
            raise RestoredDatabase(told) if name == "system" else DatabaseDiffers(told)

    def _read_system(self) -> tuple[str, int]:
        # Not pg_control_checkpoint's timeline: after a promotion that is the old one at first.
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT system_identifier::text, "
                "left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) FROM pg_control_system()"
            )
            system, timeline = cursor.fetchone()
        return system, int(timeline, 16)


@contextmanager
def own_connection(tables: Tables) -> Iterator[BaseDatabaseWrapper]:
    """A database connection of the relay's own, set up for its statements."""
    connection: Any = tables.connection.copy()
    try:
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
) -> Ended:
    """Drain, wait for a nudge, drain again, for `linger_seconds` or until told to stop.

    Returns at once when another relay of the service holds the lock (unless not `exclusive`).
    Raises what `Relay.drain` raises.
    """
    deadline = time.monotonic() + linger_seconds
    streams.check()
    with own_connection(tables) as connection:
        if exclusive and not locked(connection, tables.label):
            return Ended.TAKEN
        relay = Relay(tables, streams, connection)
        nudged_at = time.monotonic()  # the relay before may have been, and looked no more
        while not stopping.is_set():
            # From the begin of one drain to the next some time passes: under load, what comes
            # meanwhile goes in one batch. An event that comes alone finds nobody resting.
            began = time.monotonic()
            sent = relay.drain()
            stopping.wait(max(0.0, began + AGAIN_SECONDS - time.monotonic()))
            if began < nudged_at + LOOKING_SECONDS:
                continue  # as writers count on (nudging.py)
            if time.monotonic() >= deadline:
                return Ended.LINGERED
            # The nudge is taken before the tick is made: whoever pushed none because one
            # waited had committed before this pop, and so before the tick's snapshot. Where events
            # keep coming it may as well wait.
            if not sent and streams.wait_nudge(tables.label, timeout_seconds=NUDGE_SECONDS):
                nudged_at = time.monotonic()
    return Ended.STOPPED


def locked(connection: BaseDatabaseWrapper, label: str) -> bool:
    # Advisory locks are per database, not per schema: the key names the service.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"outbox.relay:{label}"]
        )
        return bool(cursor.fetchone()[0])
