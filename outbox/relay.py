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
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .errors import CursorMoved, CursorUnknown, StreamDamaged, StreamsMisconfigured
from .streams import Streams, order
from .tables import Tables
from .ticks import Tick, Ticks, clock_ms

log = logging.getLogger(__name__)

WHOLE = 18446744073709551615  # in place of a row id: all of the tick was sent (2^64 - 1)
NUDGE_SECONDS = 1.0  # how long a lost nudge can delay an event
STOP = "stop"

# A frozen relay must not keep the others out: the server ends its session, and so its lock.
# The plans of the two statements that matter stay on the index whatever the statistics say.
SESSION = """
SET idle_session_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
SET statement_timeout = 0;
SET synchronous_commit = on;
SET enable_seqscan = off;
SET max_parallel_workers_per_gather = 0
"""


class Ended(enum.Enum):
    """Why `run` returned."""

    TAKEN = "another relay of this service is running"
    LINGERED = "its time is up"
    STOPPED = "it was told to stop"


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
        self._check_partitions()
        self._origin = self._read_origin()
        self._at = streams.cursor(self.label).at
        self._check_cursor()

    def drain(self) -> int:
        """Publish all that is committed by now. Returns the number of rows sent.

        Raises StreamsUnavailable or Django's database errors when a server goes: nothing is
        lost, whoever drains next goes on.
        """
        self._ticks.make()
        while True:
            try:
                sent = self._send()
                if not sent and self._at:
                    # Nothing to send: let the script look whether the streams are all there.
                    self._streams.publish(self.label, expected=self._at, at=self._at, tick=0)
            except CursorMoved as exc:
                self._at = exc.found
                self._check_cursor()
            except StreamDamaged as exc:
                log.warning("%s; sending again what the database still has", exc)
                self._streams.rewind(
                    self.label, expected=self._at, drop=exc.key if exc.foreign else None
                )
                self._at = self._streams.cursor(self.label).at
            else:
                return sent

    def _send(self) -> int:
        tick_id, row = order(self._at) if self._at else (self._ticks.first(), WHOLE)
        sent = 0
        if row != WHOLE and (tick := self._ticks.get(tick_id)):
            sent += self._send_tick(tick, after=row)
        while tick := self._ticks.after(tick_id):
            sent += self._send_tick(tick, after=0)
            tick_id = tick.id
        return sent

    def _send_tick(self, tick: Tick, *, after: int) -> int:
        sent = 0
        with self._ticks.rows(tick, after=after) as chunks:
            chunk = next(chunks, [])
            while True:
                following = next(chunks, [])
                at = f"{tick.id}-{chunk[-1][0] if following else WHOLE}"
                self._streams.publish(
                    self.label,
                    expected=self._at,
                    at=at,
                    tick=tick.id,
                    rows=chunk,
                    snapshot="" if following else tick.snapshot,
                    origin=self._origin,
                )
                self._at = at
                sent += len(chunk)
                if not following:
                    return sent
                chunk = following

    def _check_cursor(self) -> None:
        if self._at and self._ticks.get(order(self._at)[0]) is None:
            raise CursorUnknown(
                f"the streams of {self.label} are at {self._at}, a tick that its database "
                "doesn't have: they belong to another database, or this one was restored"
            )

    def _check_partitions(self) -> None:
        state = self._connection.ops.quote_name(self._tables.state._meta.db_table)
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {state} (name, value) VALUES ('partitions', %s) "  # noqa: S608
                "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING value",
                [str(self._streams.partitions)],
            )
            (found,) = cursor.fetchone()
        if int(found) != self._streams.partitions:
            raise StreamsMisconfigured(
                f"{self.label} has {found} partitions and OUTBOX_PARTITIONS is "
                f"{self._streams.partitions}: a key would change its partition"
            )

    def _read_origin(self) -> str:
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT system_identifier || '.' || timeline_id "
                "FROM pg_control_system(), pg_control_checkpoint()"
            )
            return str(cursor.fetchone()[0])


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
        if exclusive and not _locked(connection, tables.label):
            return Ended.TAKEN
        relay = Relay(tables, streams, connection)
        relay.drain()
        while not stopping.is_set():
            if time.monotonic() >= deadline:
                return Ended.LINGERED
            # The nudge is taken before the tick is made: whoever pushed none because one
            # waited had committed before this pop, and so before the tick's snapshot.
            if streams.wait_nudge(tables.label, timeout_seconds=NUDGE_SECONDS) == STOP:
                break
            relay.drain()
    return Ended.STOPPED


def _locked(connection: BaseDatabaseWrapper, label: str) -> bool:
    # Advisory locks are per database, not per schema: the key names the service.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"outbox.relay:{label}"]
        )
        return bool(cursor.fetchone()[0])
