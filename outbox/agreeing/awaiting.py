"""Waits until a projection shows the events of a transaction, so that a client reads its own write.

The producer's cursor contains the snapshot of the last tick that was published completely. Once
that snapshot sees the transaction, all events of the transaction are at or before the cursor's
tops. A consumer whose positions have reached these tops has applied the events. So the wait doesn't
read the producer's tables. It reads the positions from the same server as the projection.
"""

import enum
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .. import streams
from ..consumer import Consumer
from ..consuming.inbox import START, stored
from ..errors import StreamsMisconfigured, StreamsUnavailable
from ..streams import Cursor, order

WITHIN_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.02
SHORTEST_LAG_SECONDS = 0.001
MAX_XIDS_AHEAD = 1 << 31  # a transaction id further ahead of the published snapshot is foreign


class Answer(enum.Enum):
    """Whether the projection shows the transaction."""

    REACHED = enum.auto()
    BEHIND = enum.auto()
    FOREIGN = enum.auto()  # the transaction is from another database or from an abandoned timeline
    UNKNOWN = enum.auto()  # the stream server doesn't answer, and no known cursor sees the write


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A transaction that recorded an event of `producer`, and the server on which it committed."""

    producer: str
    system: int
    timeline: int
    xid: int


# The newest cursor that was read of each producer. It stays valid: positions never go back.
_cursors: dict[str, Cursor] = {}


class ProjectionWait:
    """Waits until one consumer has applied one transaction."""

    def __init__(self, consumer: Consumer, recorded: Recorded) -> None:
        self._consumer = consumer
        self._recorded = recorded
        self._tops: Mapping[int, str] | None = None

    def check(self, *, using: str) -> Answer:
        """Return the answer that follows from the current positions in the database `using`."""
        if self._tops is None:
            found = self._find_tops()
            if isinstance(found, Answer):
                return found
            self._tops = found
        positions = _positions(self._consumer, self._recorded.producer, using=using)
        return Answer.REACHED if not _behind(positions, self._tops) else Answer.BEHIND

    def wait(self, *, using: str) -> Answer:
        """Return the first answer other than BEHIND, or BEHIND after WITHIN_SECONDS."""
        deadline = time.monotonic() + WITHIN_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = self.check(using=using)
            if answer is not Answer.BEHIND or time.monotonic() + pause > deadline:
                return answer
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _find_tops(self) -> Mapping[int, str] | Answer:
        """Return the tops of a cursor whose snapshot sees the transaction, otherwise an Answer."""
        known = _cursors.get(self._recorded.producer)
        if known and _compare(known, self._recorded) is Answer.REACHED:
            return known.tops
        # The server may have been busy for longer than the short timeout.
        cursor = _read_cursor(self._recorded.producer) or _read_cursor(self._recorded.producer)
        if cursor is None:
            return Answer.UNKNOWN
        answer = _compare(cursor, self._recorded)
        return cursor.tops if answer is Answer.REACHED else answer


def lag_seconds(consumer: Consumer, producer: str, *, using: str) -> float | None:
    """The age of the oldest published event that the consumer hasn't applied: 0 if there is no
    such event, more than 0 if there is one and this clock is behind the relay's, None if the stream
    server doesn't answer."""
    cursor = _read_cursor(producer)
    if cursor is None:
        return None
    positions = _positions(consumer, producer, using=using)
    behind = {p: positions.get(p, START) for p in _behind(positions, cursor.tops)}
    try:
        oldest = streams.connect().oldest_after(producer, behind) if behind else ""
    except (StreamsUnavailable, StreamsMisconfigured):
        return None
    if not oldest:
        return 0.0
    return max(SHORTEST_LAG_SECONDS, time.time() - order(oldest)[0] / 1000)


def sees(snapshot: str, xid: int) -> bool:
    """Like PostgreSQL's pg_visible_in_snapshot, for a snapshot's text; '' sees no transaction."""
    if not snapshot:
        return False
    oldest, end, running = snapshot.split(":")
    if xid < int(oldest) or xid >= int(end):
        return xid < int(oldest)
    return str(xid) not in running.split(",")


def _compare(cursor: Cursor, recorded: Recorded) -> Answer:
    """Compare a transaction with a cursor: REACHED if the transaction has been published."""
    if not cursor.origin or not cursor.snapshot:
        return Answer.BEHIND  # after a loss of the streams or a restamp, until a relay publishes
    system, _, timeline = cursor.origin.partition(".")
    if int(system) % (1 << 64) != recorded.system or recorded.timeline < int(timeline):
        return Answer.FOREIGN
    if recorded.timeline > int(timeline):
        return Answer.BEHIND  # the server was promoted, and its relay hasn't published yet
    if recorded.xid >= int(cursor.snapshot.split(":")[1]) + MAX_XIDS_AHEAD:
        return Answer.FOREIGN
    return Answer.REACHED if sees(cursor.snapshot, recorded.xid) else Answer.BEHIND


def _read_cursor(producer: str) -> Cursor | None:
    try:
        cursor = streams.connect().peek_cursor(producer)
    except (StreamsUnavailable, StreamsMisconfigured):
        return None
    known = _cursors.get(producer)
    if known is None or _is_newer(cursor, known):
        _cursors[producer] = cursor
    return cursor


def _is_newer(cursor: Cursor, known: Cursor) -> bool:
    """False for the cursor of streams that were lost and that the relay sends again: requests would
    wait for transactions that the projection has applied. Tick ids rise in one history."""
    if not cursor.origin:
        return False
    return cursor.origin != known.origin or cursor.complete >= known.complete


def _positions(consumer: Consumer, producer: str, *, using: str) -> dict[int, str]:
    return stored(consumer.tables, consumer=consumer.name, producer=producer, using=using)


def _behind(positions: Mapping[int, str], tops: Mapping[int, str]) -> list[int]:
    return [p for p, top in tops.items() if order(positions.get(p, START)) < order(top)]
