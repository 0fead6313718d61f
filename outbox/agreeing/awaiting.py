"""Waits until a projection has what one transaction recorded: reading one's own write.

The producer's cursor has a snapshot of what was published whole. Once that sees the transaction,
its entries are among the last ones that the cursor names, and a consumer whose positions have
reached those has applied them. So nothing of the producer's schema is needed, and the positions
are read where the projection is: on the same replica, if it is one.
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
TOO_FAR = 1 << 31  # transactions beyond all that were published: no server gets there unnoticed


class Answer(enum.Enum):
    """Whether the projection has it."""

    REACHED = enum.auto()
    BEHIND = enum.auto()  # not yet
    FOREIGN = enum.auto()  # it is of another database, or of a history that was given up
    UNKNOWN = enum.auto()  # the stream server doesn't answer, and what it told before is older


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A transaction that recorded an event of `producer`, and the server it committed on."""

    producer: str
    system: int
    timeline: int
    xid: int


# What was last heard of each producer. It stays true: positions never go back.
_heard: dict[str, Cursor] = {}


class Awaited:
    """One consumer having applied one transaction."""

    def __init__(self, consumer: Consumer, recorded: Recorded) -> None:
        self._consumer = consumer
        self._recorded = recorded
        self._tops: Mapping[int, str] | None = None

    def look(self, *, using: str) -> Answer:
        """How it is now, by the positions in the database `using`."""
        if self._tops is None:
            found = self._find()
            if isinstance(found, Answer):
                return found
            self._tops = found
        held = _positions(self._consumer, self._recorded.producer, using=using)
        return Answer.REACHED if not _behind(held, self._tops) else Answer.BEHIND

    def wait(self, *, using: str) -> Answer:
        """How it is once it is no longer behind, or after WITHIN_SECONDS."""
        deadline = time.monotonic() + WITHIN_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = self.look(using=using)
            if answer is not Answer.BEHIND or time.monotonic() + pause > deadline:
                return answer
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _find(self) -> Mapping[int, str] | Answer:
        """The last entries when the transaction had been published."""
        heard = _heard.get(self._recorded.producer)
        if heard and _judge(heard, self._recorded) is Answer.REACHED:
            return heard.tops
        cursor = _hear(self._recorded.producer)
        if cursor is None:
            return Answer.UNKNOWN
        answer = _judge(cursor, self._recorded)
        return cursor.tops if answer is Answer.REACHED else answer


def lag_seconds(consumer: Consumer, producer: str, *, using: str) -> float | None:
    """How long ago the oldest event was published that the consumer lacks: 0 if it lacks none.
    None if the stream server doesn't answer."""
    cursor = _hear(producer)
    if cursor is None:
        return None
    held = _positions(consumer, producer, using=using)
    behind = {p: held.get(p, START) for p in _behind(held, cursor.tops)}
    try:
        oldest = streams.connect().oldest_after(producer, behind) if behind else ""
    except (StreamsUnavailable, StreamsMisconfigured):
        return None
    return max(0.0, time.time() - order(oldest)[0] / 1000) if oldest else 0.0


def sees(snapshot: str, xid: int) -> bool:
    """PostgreSQL's pg_visible_in_snapshot; `snapshot` is its text, '' sees nothing."""
    if not snapshot:
        return False
    oldest, end, running = snapshot.split(":")
    if xid < int(oldest) or xid >= int(end):
        return xid < int(oldest)
    return str(xid) not in running.split(",")


def _judge(cursor: Cursor, recorded: Recorded) -> Answer:
    """REACHED: it was published."""
    if not cursor.origin or not cursor.snapshot:
        return Answer.BEHIND  # lost, and being sent again
    system, _, timeline = cursor.origin.partition(".")
    if int(system) % (1 << 64) != recorded.system or recorded.timeline < int(timeline):
        return Answer.FOREIGN
    if recorded.timeline > int(timeline):
        return Answer.BEHIND  # nothing was published yet since that server was promoted
    if recorded.xid >= int(cursor.snapshot.split(":")[1]) + TOO_FAR:
        return Answer.FOREIGN
    return Answer.REACHED if sees(cursor.snapshot, recorded.xid) else Answer.BEHIND


def _hear(producer: str) -> Cursor | None:
    try:
        cursor = streams.connect().peek_cursor(producer)
    except (StreamsUnavailable, StreamsMisconfigured):
        return None
    _heard[producer] = cursor
    return cursor


def _positions(consumer: Consumer, producer: str, *, using: str) -> dict[int, str]:
    return stored(consumer.tables, consumer=consumer.name, producer=producer, using=using)


def _behind(held: Mapping[int, str], tops: Mapping[int, str]) -> list[int]:
    return [p for p, top in tops.items() if order(held.get(p, START)) < order(top)]
