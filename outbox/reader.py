"""Reads a producer's streams for one consumer and applies what it finds, once and in order."""

import logging
import random
import threading
from collections.abc import Sequence
from itertools import count

from django.db import InterfaceError, OperationalError, transaction

from .consumer import Consumer
from .delivery import Delivery
from .errors import Fenced
from .inbox import Inbox
from .parking import Parking, described, settle_constraints
from .streams import Streams, order

log = logging.getLogger(__name__)

BATCH_ENTRIES = 200  # of each partition
BLOCK_SECONDS = 0.5  # how long a read waits, and so how long a stop can take
TRIES = 3  # of an event whose handler raises, before it is parked
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0

# PostgreSQL's classes of errors that pass by themselves: serialization and deadlock, lost
# connections, a server that starts or stops, too little of something. A statement that ran
# into its time limit isn't among them: it would again.
TRANSIENT_CODES = ("40001", "40P01", "08", "57P", "53", "55P03")


def is_transient(error: BaseException | None) -> bool:
    """Whether trying again can help although nothing was mended."""
    while error is not None:
        if getattr(error, "transient", False) or isinstance(
            error, InterfaceError | ConnectionError
        ):
            return True
        if isinstance(error, OperationalError):
            code = getattr(error.__cause__, "pgcode", None)
            return code is None or code.startswith(TRANSIENT_CODES)
        error = error.__cause__
    return False


class Reader:
    """One consumer's loop over one producer's partitions."""

    def __init__(
        self,
        consumer: Consumer,
        producer: str,
        streams: Streams,
        *,
        stopping: threading.Event,
        batch_entries: int = BATCH_ENTRIES,
    ) -> None:
        self.name = f"{consumer.name} of {producer}"
        self._consumer = consumer
        self._producer = producer
        self._streams = streams
        self._stopping = stopping
        self._batch_entries = batch_entries
        self._tables = consumer.tables
        self._inbox = Inbox(self._tables, consumer=consumer.name, producer=producer)
        self._parking = Parking(self._tables, consumer=consumer.name, producer=producer)
        self._positions: dict[int, str] = {}

    def run(self) -> None:
        """Read and apply until told to stop; a server that goes is waited for."""
        failures = 0
        while not self._stopping.is_set():
            try:
                self.step(block_seconds=BLOCK_SECONDS)
                failures = 0
            except Exception as exc:
                failures += 1
                if not is_transient(exc):
                    log.exception("%s failed", self.name)
                elif failures == 1:
                    log.warning("%s waits: %s", self.name, described(exc))
                self._recover()
                self._pause(failures)
        self._tables.connection.close()

    def step(self, *, block_seconds: float = 0.0) -> int:
        """Read once and apply what came. Returns the number of entries read."""
        if not self._positions:
            self._positions = self._inbox.open(range(self._streams.partitions))
        entries = self._streams.read(
            self._producer,
            self._positions,
            count=self._batch_entries,
            block_seconds=block_seconds,
        )
        # By tick, then row: across partitions too, effects follow the order of commits.
        entries.sort(key=lambda entry: order(entry.id))
        deliveries = [Delivery.of(entry) for entry in entries]
        if deliveries:
            try:
                self._apply(deliveries)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is met event by event
                log.info("%s goes event by event: %s", self.name, described(exc))
                self._recover()
                self._apply_singly(deliveries)
        return len(deliveries)

    def _apply(self, deliveries: Sequence[Delivery]) -> None:
        """All effects and the positions in one transaction, or none of them."""
        ends = {delivery.partition: delivery.id for delivery in deliveries}
        with transaction.atomic(using=self._tables.alias):
            self._inbox.move({p: (self._positions[p], end) for p, end in ends.items()})
            parked = self._parking.keys(ends)
            for delivery in deliveries:
                if delivery.key in parked:
                    self._parking.park(delivery, None)
                elif delivery.envelope is None:
                    raise delivery.error or AssertionError("neither event nor error")
                else:
                    self._consumer.handle(delivery.envelope)
            settle_constraints(self._tables)
        self._positions.update(ends)

    def _apply_singly(self, deliveries: Sequence[Delivery]) -> None:
        """Each event in a transaction of its own: what fails for good is parked, alone."""
        self._positions = self._inbox.committed()
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
                    self._positions = self._inbox.committed()

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
        self._positions = {}
        self._tables.connection.close_if_unusable_or_obsolete()

    def _pause(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failures)
        self._stopping.wait(random.uniform(longest / 2, longest))  # noqa: S311


def readers_of(
    consumers: Sequence[Consumer], streams: Streams, *, stopping: threading.Event
) -> list[Reader]:
    """A reader for each consumer and each producer it reads."""
    return [
        Reader(consumer, producer, streams, stopping=stopping)
        for consumer in consumers
        for producer in consumer.producers
    ]
