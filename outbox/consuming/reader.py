"""Reads a producer's streams for one consumer and applies what it finds, once and in order."""

import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from django.db import InterfaceError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..consumer import Consumer
from ..envelope import Envelope
from ..errors import BelowFloor, Fenced, OutboxError, is_cut_socket
from ..streams import WHOLE, Batch, Cursor, Entry, Streams, order
from .delivery import Delivery
from .inbox import START, Inbox
from .membership import Membership
from .parking import Parking, described

log = logging.getLogger(__name__)

BATCH_ENTRIES = 200  # of each partition
BLOCK_SECONDS = 0.5  # how long a read waits, and so how long a stop can take
# From one batch to the next at least: under load, what comes meanwhile is one transaction. It
# costs an event that comes alone nothing.
REST_SECONDS = 0.002
PASSED_SECONDS = 0.05  # how long a position may stay behind events that are ignored
TRIES = 3  # of an event whose handler raises, before it is parked
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
CONFIRM_SECONDS = 5.0  # how often it tells the owner how far it is
FROZEN_SECONDS = 5  # between two statements of a transaction: then its session is ended

# A process that froze inside a transaction holds its positions: not for long. Small tables are
# read row by row along their indexes, in whose order the newest version of a row comes first: the
# planner counts the rows, and not the versions that an open transaction makes PostgreSQL keep. And
# what is prepared stays planned: left to itself PostgreSQL goes on planning for the arrays at hand.
SESSION = f"""
SET idle_in_transaction_session_timeout = '{FROZEN_SECONDS}s';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET plan_cache_mode = force_generic_plan
"""

ABORTED = 3  # libpq's PQTRANS_INERROR

# PostgreSQL's classes of errors that pass by themselves: serialization and deadlock, lost
# connections, a server that starts or stops, too little of something. A statement that ran
# into its time limit isn't among them: it would again.
TRANSIENT_CODES = ("40001", "40P01", "08", "57P", "53", "55P03")


def is_transient(error: BaseException | None) -> bool:
    """Whether trying again can help although nothing was mended."""
    while error is not None:
        if getattr(error, "transient", False) or is_cut_socket(error):
            return True
        if isinstance(error, InterfaceError | ConnectionError):
            return True
        if isinstance(error, OperationalError):
            code = getattr(error.__cause__, "pgcode", None)
            return code is None or code.startswith(TRANSIENT_CODES)
        error = error.__cause__
    return False


class Reader:
    """One consumer's loop over one producer's partitions, or those of them that it owns."""

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
        self._passed: dict[int, str] = {}  # beyond them, and nothing but ignored events between
        self._move_at = 0.0
        self._reading: frozenset[int] = frozenset()
        self._rested_at = self._confirm_at = 0.0

    def run(self) -> None:
        """Read and apply until told to stop; a server that goes is waited for."""
        failures, told = 0, ""
        while not self._stopping.is_set():
            try:
                self.step(block_seconds=BLOCK_SECONDS)
                failures, told = 0, ""
                self._stopping.wait(max(0.0, self._rested_at - time.monotonic()))
            except Exception as exc:  # noqa: BLE001 - whatever it is, the next step may do
                failures += 1
                if (line := described(exc)) != told:  # once, not at every try
                    self._tell(exc)
                    told = line
                self._recover()
                self._pause(failures)
        self._tables.connection.close()

    def _tell(self, error: Exception) -> None:
        if isinstance(error, OutboxError) and not is_transient(error):
            log.error("%s stands still: %s", self.name, error)
        elif is_transient(error):
            log.warning("%s waits: %s", self.name, described(error))
        else:
            log.error("%s failed", self.name, exc_info=error)

    def step(self, *, block_seconds: float = 0.0) -> int:
        """Read once and apply what came. Returns the number of entries read.

        Raises BelowFloor when entries that it lacks were pruned.
        """
        owned = self._owned()
        if not self._positions:
            self._open()
        elif owned != self._reading:
            self._know(self._inbox.stored())  # others have moved what was theirs
        self._reading = owned
        if not owned:
            self._stopping.wait(block_seconds)
            return 0
        batch = self._read(owned, block_seconds=block_seconds)
        if batch:
            self._refuse_gaps(batch.cursor, owned)
            self._take(batch.entries)
            if not batch.entries:  # beyond the cursor: a stranger's, or not yet confirmed
                self._stopping.wait(block_seconds)
        if self._passed and time.monotonic() >= self._move_at:
            self._apply([])
        if time.monotonic() >= self._confirm_at:
            self.confirm()
        return len(batch.entries) if batch else 0

    def _read(self, owned: Iterable[int], *, block_seconds: float) -> Batch | None:
        if self._passed:
            block_seconds = min(block_seconds, max(0.0, self._move_at - time.monotonic()))
        reached = self._positions | self._passed
        return self._streams.read(
            self._producer,
            {partition: reached[partition] for partition in owned},
            count=self._batch_entries,
            block_seconds=block_seconds,
        )

    def confirm(self) -> None:
        """Tell the owner how far this reader is, idle partitions included.

        A partition whose position has reached what the cursor says is its last entry has all
        of every complete tick: it moves there, though nothing came.
        """
        self._confirm_at = time.monotonic() + CONFIRM_SECONDS
        owned = self._owned()
        cursor = self._streams.cursor(self._producer)
        if self._passed:
            self._apply([])
        # From the table: what memory holds may have been lost with the server that kept it.
        self._know(self._inbox.stored())
        self._refuse_gaps(cursor, owned)
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
        ticks = {partition: whole_tick(self._positions[partition]) for partition in owned}
        self._streams.confirm(self._producer, self._consumer.subscriber, ticks)

    def _owned(self) -> frozenset[int]:
        if self._membership is None:
            return frozenset(range(self._streams.partitions))
        return self._membership.partitions_of(self.name)

    def _open(self) -> None:
        with self._tables.connection.cursor() as cursor:
            cursor.execute(SESSION)
        self._know(self._inbox.open(range(self._streams.partitions)))

    def _know(self, positions: dict[int, str]) -> None:
        self._positions, self._passed = positions, {}

    def _refuse_gaps(self, cursor: Cursor, owned: Iterable[int]) -> None:
        end = (cursor.floor, WHOLE)
        if not cursor.floor or all(order(self._positions[p]) >= end for p in owned):
            return
        self._know(self._inbox.committed())  # memory may be older than the table
        for partition in owned:
            if order(self._positions[partition]) < end:
                raise BelowFloor(
                    f"{self.name} is at {self._positions[partition]} in partition {partition}, "
                    f"and everything up to {cursor.floor} was pruned; see manage.py outbox backfill"
                )

    def _take(self, entries: list[Entry]) -> None:
        # By tick, then row: across partitions too, effects follow the order of commits.
        entries.sort(key=lambda entry: order(entry.id))
        deliveries = [Delivery.of(entry) for entry in entries]
        self._rested_at = time.monotonic() + max(REST_SECONDS, self._gather_seconds(deliveries))
        if deliveries and all(map(self._is_ignored, deliveries)):
            # They change nothing, so nothing is written: a position moves for many of them.
            if not self._passed:
                self._move_at = time.monotonic() + PASSED_SECONDS
            self._passed |= {delivery.partition: delivery.id for delivery in deliveries}
        elif deliveries:
            reached = {d.partition: self._positions[d.partition] for d in deliveries}
            try:
                self._apply(deliveries)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is met event by event
                log.info("%s goes event by event: %s", self.name, described(exc))
                self._recover()
                self._apply_singly(deliveries, reached)

    def _apply(self, deliveries: Sequence[Delivery]) -> None:
        """All effects and the positions in one transaction, or none of them."""
        ends = self._passed | {delivery.partition: delivery.id for delivery in deliveries}
        with transaction.atomic(using=self._tables.alias):
            parked = self._inbox.move({p: (self._positions[p], end) for p, end in ends.items()})
            self._consumer.handle_all(self._unless_parked(deliveries, parked))
            if _is_ended(self._tables.connection):
                raise transaction.TransactionManagementError(
                    "a handler caught an error that had ended its transaction"
                )
        self._positions.update(ends)
        self._passed = {}

    def _gather_seconds(self, deliveries: Iterable[Delivery]) -> float:
        return self._consumer.gather_seconds(d.envelope for d in deliveries if d.envelope)

    def _is_ignored(self, delivery: Delivery) -> bool:
        return delivery.envelope is not None and self._consumer.ignores(delivery.envelope)

    def _unless_parked(
        self, deliveries: Sequence[Delivery], parked: set[str]
    ) -> Iterator[Envelope]:
        for delivery in deliveries:
            if self._is_ignored(delivery):
                continue
            if delivery.key in parked and not self._is_freed(delivery, parked):
                self._parking.park(delivery, None)
            elif delivery.envelope is None:
                raise delivery.error or AssertionError("neither event nor error")
            else:
                yield delivery.envelope

    def _is_freed(self, delivery: Delivery, parked: set[str]) -> bool:
        """Whether the event is applied although its key has a parked sequence, which it then
        takes along as far as it makes it void."""
        envelope = delivery.envelope
        if envelope is None or not self._consumer.supersedes(envelope):
            return False
        if not self._parking.drop_superseded(envelope, partition=delivery.partition):
            parked.discard(delivery.key)
        return True

    def _apply_singly(self, deliveries: Sequence[Delivery], reached: dict[int, str]) -> None:
        """Each event in a transaction of its own: what fails for good is parked, alone."""
        self._settle(reached)
        for delivery in deliveries:
            failed: list[Exception] = []
            for attempt in count(1):
                if self._stopping.is_set() or self._is_applied(delivery):
                    break
                try:
                    if len(failed) < TRIES:
                        self._apply([delivery])
                    else:
                        self._park(delivery, failed)
                except Exception as exc:  # noqa: BLE001 - whatever a handler raises is kept, not lost
                    self._recover()
                    if not is_transient(exc):
                        failed.append(exc)
                    elif not isinstance(exc, Fenced):
                        log.warning("%s tries again: %s", self.name, described(exc))
                    self._pause(attempt)
                    self._settle(reached)
            reached[delivery.partition] = delivery.id

    def _settle(self, reached: Mapping[int, str]) -> None:
        """The positions as they are now. Raises Fenced when one went back, with a standby that
        was behind or a backup: what follows it has to be read again."""
        self._open()
        for partition, entry in reached.items():
            if not self._stopping.is_set() and order(self._positions[partition]) < order(entry):
                raise Fenced(f"partition {partition} went back to {self._positions[partition]}")

    def _is_applied(self, delivery: Delivery) -> bool:
        return order(delivery.id) <= order(self._positions[delivery.partition])

    def _park(self, delivery: Delivery, failed: Sequence[Exception]) -> None:
        partition = delivery.partition
        with transaction.atomic(using=self._tables.alias):
            self._inbox.move({partition: (self._positions[partition], delivery.id)})
            self._parking.park(delivery, failed[-1], attempts=len(failed))
        self._positions[partition] = delivery.id
        key = delivery.key or "unknown"
        log.error("%s parked %s of key %s: %s", self.name, delivery.id, key, described(failed[-1]))

    def _recover(self) -> None:
        # Memory may be wrong after an error; the next step asks the table, under its lock.
        self._know({})
        self._tables.connection.close_if_unusable_or_obsolete()

    def _pause(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failures)
        self._stopping.wait(random.uniform(longest / 2, longest))  # noqa: S311


def _is_ended(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction can only be rolled back. Django knows it of its own blocks and
    methods; of a statement in plain SQL the driver does, and COMMIT would roll back silently."""
    status = connection.connection.info.transaction_status if connection.connection else None
    return connection.needs_rollback or status == ABORTED


def whole_tick(position: str) -> int:
    """The last tick that a position at this entry has all of."""
    tick, row = order(position)
    return tick if row == WHOLE else max(tick - 1, 0)


def readers_of(
    consumers: Sequence[Consumer],
    streams: Streams,
    *,
    stopping: threading.Event,
    memberships: Mapping[str, Membership],
) -> list[Reader]:
    """A reader for each consumer and each producer it reads."""
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
