"""The reader of production, for the thread of a test."""

import sys
import threading
from typing import Any

from ..consumer import Consumer
from ..consuming.delivery import Delivery
from ..consuming.parking import Parking, one_line
from ..consuming.reader import Reader

MOST_FAILURES = 10  # transient errors of one event, which is tried again without a pause


class ReaderInTest(Reader):
    """A reader that leaves the test's connection as it is, never pauses, and fails the test when it
    parks an event."""

    def __init__(self, consumer: Consumer, producer: str, streams: Any) -> None:
        super().__init__(consumer, producer, streams, stopping=threading.Event())
        self.producer = producer
        self._parking = self._noted = _NotedParking(
            consumer.tables, consumer=consumer.name, producer=producer
        )

    def read_all(self) -> int:
        """Read and apply until no entry is left. Returns the number of entries.

        Raises AssertionError, with the handler's error as its cause, if an event was parked.
        """
        entries = 0
        while read := self.step():
            entries += read
            if self._noted.parked:
                self._fail()
        self.confirm()  # it also writes the positions after ignored events
        return entries

    def _fail(self) -> None:
        cause = next((error for _, error in self._noted.parked if error), None)
        listed = "".join(f"\n  {_described(*each)}" for each in self._noted.parked)
        raise AssertionError(f"{self.name} parked events:{listed}") from cause

    def _open(self) -> None:
        self._set_positions(self._inbox.open(range(self._streams.partitions)))

    def _reset(self) -> None:
        self._set_positions({})  # without closing the connection, which may be in a TestCase

    def _pause(self, failures: int) -> None:
        if failures >= MOST_FAILURES:
            error = sys.exception()
            raise AssertionError(
                f"{self.name} failed {failures} times with errors that count as transient; the "
                f"last: {one_line(error) if error else 'unknown'}"
            ) from error


class _NotedParking(Parking):
    """Also keeps the events that it parks, with their errors."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parked: list[tuple[Delivery, BaseException | None]] = []

    def park(self, delivery: Delivery, error: BaseException | None, *, attempts: int = 0) -> None:
        super().park(delivery, error, attempts=attempts)
        self.parked.append((delivery, error))


def _described(delivery: Delivery, error: BaseException | None) -> str:
    type_ = delivery.envelope.type if delivery.envelope else "an entry that isn't an event"
    reason = one_line(error) if error else "waits behind a parked event of its key"
    return f"{type_} of key {delivery.key or 'unknown'}: {reason}"
