"""Reads a producer's streams for one consumer, and applies each event once and in order."""

import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count

from django.db import Error as DatabaseError
from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import drivers, progress
from ..consumer import Consumer
from ..envelope import Envelope
from ..errors import BelowFloor, Fenced, HandlerIdle, OutboxError, PooledConnection
from ..pacing import Sparing
from ..pooling import check_direct
from ..streams import WHOLE, Batch, Cursor, Entry, Streams, described, order
from ..trace_context import continued
from .delivery import Delivery
from .fences import Fence
from .idleness import Idleness, handler_idle_seconds
from .inbox import START, Inbox
from .membership import Membership
from .outages import Failures, HandlerErrors, Outage
from .parking import Parking, one_line

log = logging.getLogger(__name__)

BATCH_ENTRIES = 200  # per partition
BLOCK_SECONDS = 0.5  # how long a read waits for entries, and so how long a stop can take
# The shortest time from a batch to the next read. Under load, one transaction then applies all
# events that arrive in this time. An event that arrives alone isn't delayed.
BATCH_INTERVAL_SECONDS = 0.002
PENDING_SECONDS = 0.05  # how long a position can stay unwritten if only ignored events arrive
TRIES = 3  # how often a handler may fail for an event; an outage of another server: outages.py
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
MOST_DOUBLINGS = 10  # of the first pause; 2 ** 1024 doesn't fit in a float
CONFIRM_SECONDS = 5.0  # between two reports of applied ticks to the owner

# Small tables are read by index, where the newest version of a row comes first. Otherwise the
# planner would scan the tables: it doesn't count the old row versions that PostgreSQL keeps for an
# open transaction. Prepared statements keep one plan; the default is a plan for each set of arrays.
# At a stricter isolation level than the default, transactions would only fail more often.
SESSION = """
SET default_transaction_isolation = 'read committed';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET plan_cache_mode = force_generic_plan
"""
# A process that freezes in a transaction locks its positions for this time at most.
HANDLER_IDLE = "SELECT set_config('idle_in_transaction_session_timeout', %s, false)"

# SQLSTATEs or classes of transient errors: serialization failure, deadlock, lost connection,
# server start or stop, insufficient resources, lock timeout. A statement timeout isn't transient,
# because it would occur again.
TRANSIENT_CODES = ("40001", "40P01", "08", "57P", "53", "55P03")


def is_transient(error: BaseException | None) -> bool:
    """Whether the same operation can succeed later without a change."""
    while error is not None:
        if (transient := getattr(error, "transient", None)) is not None:
            return bool(transient)
        if drivers.is_cut_socket(error):
            return True
        if isinstance(error, InterfaceError | ConnectionError):
            return True
        if isinstance(error, OperationalError):
            code = drivers.sqlstate(error)
            return code is None or code.startswith(TRANSIENT_CODES)
        error = error.__cause__
    return False


class Reader:
    """Applies one producer's events for one consumer, in the partitions of this process."""

    def __init__(
        self,
        consumer: Consumer,
        producer: str,
        streams: Streams,
        *,
        stopping: threading.Event,
        membership: Membership | None = None,
        batch_entries: int = BATCH_ENTRIES,
    ) -> None:
        self.name = f"{consumer.name} of {producer}"
        self._consumer = consumer
        self._producer = producer
        self._streams = streams
        self._stopping = stopping
        self._membership = membership
        self._batch_entries = batch_entries
        self._tables = consumer.tables
        self._inbox = Inbox(self._tables, consumer=consumer.name, producer=producer)
        self._parking = Parking(self._tables, consumer=consumer.name, producer=producer)
        self._positions: dict[int, str] = {}
        self._pending: dict[int, str] = {}  # positions after ignored events, not written yet
        self._last_owned: frozenset[int] = frozenset()
        self._move_at = self._read_at = self._confirm_at = 0.0  # when each step is due next
        self._outage = Outage()
        self._handler_errors = HandlerErrors()
        self._lines = Sparing()

    def run(self) -> None:
        """Read and apply events until `stopping` is set. After an error, the loop continues."""
        drivers.own_session_of_thread(self._tables.alias)
        try:
            self._run()
        finally:
            self._tables.connection.close()

    def _run(self) -> None:
        failures, logged = 0, ""
        while not self._stopping.is_set():
            progress.report(self.name)
            try:
                self.step(block_seconds=BLOCK_SECONDS)
                failures, logged = 0, ""
                self._stopping.wait(max(0.0, self._read_at - time.monotonic()))
            except Exception as exc:  # noqa: BLE001 - the next step may succeed after any error
                failures += 1
                # A repeated error is logged once, and one that comes and goes once a minute.
                if (line := one_line(exc)) != logged and self._lines.allows(line):
                    self._log(exc)
                    logged = line
                self._reset()
                self._pause(failures)

    def _log(self, error: Exception) -> None:
        if is_transient(error):
            log.warning("%s waits: %s", self.name, one_line(error))
        elif isinstance(error, OutboxError):
            log.error("%s makes no progress until this error is corrected: %s", self.name, error)
        else:
            log.error("%s failed", self.name, exc_info=error)

    def step(self, *, block_seconds: float = 0.0) -> int:
        """Read once and apply the entries. Returns the number of entries.

        Raises BelowFloor if the producer has pruned entries that the consumer hasn't applied.
        """
        owned = self._owned()
        if not self._positions:
            self._open()
        elif owned != self._last_owned:
            self._set_positions(self._inbox.stored())  # other processes may have moved them
        self._last_owned = owned
        if not owned:
            self._stopping.wait(block_seconds)
            return 0
        batch = self._read(owned, block_seconds=block_seconds)
        if batch:
            self._check_floor(batch.cursor, owned)
            self._process(batch.entries)
            if not batch.entries:  # all entries are foreign or not confirmed yet
                self._stopping.wait(block_seconds)
        if self._pending and time.monotonic() >= self._move_at:
            self._apply([])
        if time.monotonic() >= self._confirm_at:
            self.confirm()
        return len(batch.entries) if batch else 0

    def _read(self, owned: Iterable[int], *, block_seconds: float) -> Batch | None:
        if self._pending:
            block_seconds = min(block_seconds, max(0.0, self._move_at - time.monotonic()))
        reached = self._positions | self._pending
        return self._streams.read(
            self._producer,
            {partition: reached[partition] for partition in owned},
            count=self._batch_entries,
            block_seconds=block_seconds,
        )

    def confirm(self) -> None:
        """Report to the owner, for each partition, the last tick that is applied completely.

        If a position has reached the cursor's top, all complete ticks are applied, and the
        position moves to the end of the last complete tick.
        """
        self._confirm_at = time.monotonic() + CONFIRM_SECONDS
        owned = self._owned()
        cursor = self._streams.cursor(self._producer)
        if self._pending:
            self._apply([])
        # Read the table: a failover may have lost the positions that are in memory.
        self._set_positions(self._inbox.stored())
        self._check_floor(cursor, owned)
        end = f"{cursor.complete}-{WHOLE}"
        idle = {
            partition: (self._positions[partition], end)
            for partition in owned
            if order(cursor.tops.get(partition, START))
            <= order(self._positions[partition])
            < order(end)
        }
        if idle:
            with transaction.atomic(using=self._tables.alias):
                self._inbox.move(idle)
            self._positions.update(dict.fromkeys(idle, end))
        ticks = {partition: complete_tick(self._positions[partition]) for partition in owned}
        self._streams.confirm(self._producer, self._consumer.subscriber, ticks)

    def _owned(self) -> frozenset[int]:
        if self._membership is None:
            return frozenset(range(self._streams.partitions))
        return self._membership.partitions_of(self.name)

    def _open(self) -> None:
        check_direct(self._tables.connection)
        with self._tables.connection.cursor() as cursor:
            idle = f"{round(handler_idle_seconds() * 1000)}ms"
            cursor.execute(SESSION)
            cursor.execute(HANDLER_IDLE, [idle])
        self._set_positions(self._inbox.open(range(self._streams.partitions)))

    def _set_positions(self, positions: dict[int, str]) -> None:
        self._positions, self._pending = positions, {}

    def _check_floor(self, cursor: Cursor, owned: Iterable[int]) -> None:
        end = (cursor.floor, WHOLE)
        if not cursor.floor or all(order(self._positions[p]) >= end for p in owned):
            return
        self._set_positions(self._inbox.committed())  # memory may be older than the table
        for partition in owned:
            if order(self._positions[partition]) < end:
                raise BelowFloor(
                    f"{self.name} is at {described(self._positions[partition])} in partition "
                    f"{partition}; everything up to tick {cursor.floor} was pruned; "
                    f"run manage.py outbox backfill --adopt {self._consumer.name}, then where "
                    f"{self._producer} runs manage.py outbox backfill {self._producer}"
                )

    def _process(self, entries: list[Entry]) -> None:
        # Sorted by tick and row: effects follow the order of commits, also across partitions.
        entries.sort(key=lambda entry: order(entry.id))
        deliveries = [Delivery.of(entry, producer=self._producer) for entry in entries]
        gather_seconds = self._consumer.gather_seconds(d.envelope for d in deliveries if d.envelope)
        self._read_at = time.monotonic() + max(BATCH_INTERVAL_SECONDS, gather_seconds)
        if deliveries and all(map(self._is_ignored, deliveries)):
            # No position is written now: a later move covers many ignored batches.
            if not self._pending:
                self._move_at = time.monotonic() + PENDING_SECONDS
            self._pending |= {delivery.partition: delivery.id for delivery in deliveries}
        elif deliveries:
            reached = {d.partition: self._positions[d.partition] for d in deliveries}
            try:
                self._apply(deliveries)
            except PooledConnection:
                raise  # no event is at fault
            except Exception as exc:  # noqa: BLE001 - after any error, events are applied singly
                log.info("%s applies a batch event by event: %s", self.name, one_line(exc))
                self._reset()
                self._apply_singly(deliveries, reached)

    def _apply(self, deliveries: Sequence[Delivery], idle: Idleness | None = None) -> None:
        """Move the positions and apply the events in one transaction. `idle` measures the
        handlers, not the COMMIT: it can take long on a busy server."""
        ends = self._pending | {delivery.partition: delivery.id for delivery in deliveries}
        moves = {p: (self._positions[p], end) for p, end in ends.items()}
        keys = {(delivery.partition, delivery.key) for delivery in deliveries if delivery.key}
        with transaction.atomic(using=self._tables.alias):
            parked = self._inbox.move(moves, keys=keys)
            with self._observed(idle) if idle else nullcontext():
                self._consumer.handle_all(self._unless_parked(deliveries, parked))
            if _is_aborted(self._tables.connection):
                raise transaction.TransactionManagementError(
                    "a handler caught an error that aborted its transaction; raise such errors"
                )
        self._set_positions(self._positions | ends)
        if self._outage:
            applied = (d for d in deliveries if d.envelope and d.key not in parked)
            self._outage.succeed({d.envelope.type for d in applied if d.envelope})

    @contextmanager
    def _observed(self, idle: Idleness) -> Iterator[None]:
        connection = self._tables.connection
        watched = self._handler_errors.watched(connection, is_transient=is_transient)
        with idle.measured(connection), watched:
            yield

    def _is_ignored(self, delivery: Delivery) -> bool:
        return delivery.envelope is not None and self._consumer.ignores(delivery.envelope)

    def _unless_parked(
        self, deliveries: Iterable[Delivery], parked: set[str]
    ) -> Iterator[Envelope]:
        """Yield the events to apply. Park the events of keys that have a parked sequence."""
        for delivery in deliveries:
            if self._is_ignored(delivery):
                continue
            progress.report(self.name)  # no handler runs
            if delivery.envelope and self._consumer.supersedes(delivery.envelope):
                self._supersede(delivery.envelope, delivery.partition, parked)
            elif delivery.key in parked:
                self._parking.park(delivery, None)
                continue
            yield delivery.decoded()

    def _supersede(self, envelope: Envelope, partition: int, parked: set[str]) -> None:
        """Delete the events that a superseding event replaces: also if its key isn't parked,
        because dropped events don't count as parked."""
        if not self._parking.delete_superseded(envelope, partition=partition):
            parked.discard(envelope.partitionkey)  # no event of this key is parked now

    def _apply_singly(self, deliveries: Sequence[Delivery], reached: dict[int, str]) -> None:
        """Apply each event in its own transaction. Park an event that has failed for good."""
        self._reload(reached)
        for delivery in deliveries:
            with continued(delivery.traceparent):
                self._apply_or_park(delivery, reached)
            reached[delivery.partition] = delivery.id

    def _apply_or_park(self, delivery: Delivery, reached: Mapping[int, str]) -> None:
        failures, fence = Failures(), Fence(self.name, delivery)
        for attempt in count(1):
            progress.report(self.name)
            if self._stopping.is_set():
                return
            if self._is_applied(delivery):
                break
            before = self._positions[delivery.partition]
            try:
                if failures.are_final:
                    self._park(delivery, failures.errors)
                else:
                    self._apply_one(delivery)
            except PooledConnection:
                raise
            except Exception as exc:  # noqa: BLE001 - a handler may raise any error
                self._reset()
                if not self._count(exc, failures, delivery):
                    self._pause(attempt)
                self._reload(reached)
                fence.note(exc, before=before, after=self._positions[delivery.partition])
        fence.end()

    def _count(self, error: Exception, failures: Failures, delivery: Delivery) -> bool:
        """Count a failed try: the event is parked after TRIES errors of its handler, or if another
        server has failed for long. Transient errors of the reader's own servers don't count.
        Returns whether to park the event without a pause."""
        if delivery.envelope and self._handler_errors.is_foreign(error):
            failures.errors.append(error)
            failures.are_final = self._outage.fail(delivery.envelope.type)
            if failures.are_final:
                return True
        elif not is_transient(error):
            failures.errors.append(error)
            failures.of_handler += 1
            failures.are_final |= failures.of_handler >= TRIES
            return False
        if not isinstance(error, Fenced):
            log.warning("%s tries again: %s", self.name, one_line(error))
        return False

    def _apply_one(self, delivery: Delivery) -> None:
        """Raises HandlerIdle if the session was lost while the handler made no database call."""
        idle, limit = Idleness(), handler_idle_seconds()
        try:
            self._apply([delivery], idle)
        except Exception as exc:
            # The server's time is a little longer: the reply to the last statement takes time.
            if idle.seconds < 0.9 * limit or not _says_that_the_session_is_lost(exc):
                raise
            raise HandlerIdle(
                f"the handler made no database call for {idle.seconds:.1f} s, so PostgreSQL ended "
                f"its session after OUTBOX_HANDLER_IDLE_SECONDS ({limit:g})"
            ) from exc

    def _reload(self, reached: Mapping[int, str]) -> None:
        """Read the positions again. Raises Fenced if a failover or a restore has moved a position
        back to before `reached`, because the entries in between must be read again."""
        self._open()
        for partition, entry in reached.items():
            if not self._stopping.is_set() and order(self._positions[partition]) < order(entry):
                at = described(self._positions[partition])
                raise Fenced(f"partition {partition} is back at {at}")

    def _is_applied(self, delivery: Delivery) -> bool:
        return order(delivery.id) <= order(self._positions[delivery.partition])

    def _park(self, delivery: Delivery, failed: Sequence[Exception]) -> None:
        partition = delivery.partition
        with transaction.atomic(using=self._tables.alias):
            self._inbox.move({partition: (self._positions[partition], delivery.id)})
            self._parking.park(delivery, failed[-1], attempts=len(failed))
        self._positions[partition] = delivery.id
        key = delivery.key or "unknown"
        log.error("%s parked %s of key %s: %s", self.name, delivery.id, key, one_line(failed[-1]))

    def _reset(self) -> None:
        """Clear the positions after an error. The next step reads them under their locks."""
        self._set_positions({})
        # Also those of handlers to other databases: outside a request, nothing else closes them.
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()

    def _pause(self, failures: int) -> None:
        longest = FIRST_PAUSE_SECONDS * 2 ** min(failures, MOST_DOUBLINGS)
        longest = min(LONGEST_PAUSE_SECONDS, longest)
        self._stopping.wait(random.uniform(longest / 2, longest))  # noqa: S311


def _says_that_the_session_is_lost(error: BaseException | None) -> bool:
    """Whether the error, or an error that caused it, can be that of a lost database session. Other
    transient errors don't depend on the session."""
    while error is not None and not isinstance(error, DatabaseError):
        error = error.__cause__
    return is_transient(error) or isinstance(error, InternalError)  # the code is often missing


def _is_aborted(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction is aborted. Django tracks errors in `atomic` and in the ORM. Only the
    driver tracks errors of plain SQL: after one, COMMIT rolls back and raises no error."""
    status = connection.connection.info.transaction_status if connection.connection else None
    return connection.needs_rollback or status == drivers.IN_ERROR


def complete_tick(position: str) -> int:
    """Return the last tick that is applied completely at this position."""
    tick, row = order(position)
    return tick if row == WHOLE else max(tick - 1, 0)


def readers_of(
    consumers: Sequence[Consumer],
    streams: Streams,
    *,
    stopping: threading.Event,
    memberships: Mapping[str, Membership],
) -> list[Reader]:
    """Create one reader for each consumer and each of the consumer's producers."""
    return [
        Reader(
            consumer,
            producer,
            streams,
            stopping=stopping,
            membership=memberships.get(consumer.subscriber),
        )
        for consumer in consumers
        for producer in consumer.producers
    ]
