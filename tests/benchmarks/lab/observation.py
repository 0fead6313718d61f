"""Compares the versions in answers: which reads were stale, and by how much.

All times are readings of the machine's monotonic clock, so processes can be compared. A write
counts from the moment when its client had the answer. A read is stale if a newer version counted
before the read was sent. So no read is called stale by mistake; some stale reads aren't found.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Answer(NamedTuple):
    """One answered request."""

    client: int
    user: int
    writes: bool
    version: int
    sent: float  # seconds
    received: float
    served_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    reads: int
    stale: int  # a newer version was acknowledged before the read was sent
    stale_own: int  # the reader itself had written a newer version
    older: int  # the reader itself had read or written a newer version
    oldest_ms: float  # how long at most a newer version had been acknowledged
    served_by: Mapping[str, int]  # reads, by server


class _Acknowledged:
    """The highest acknowledged version of each user, over time."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._times: dict[int, list[float]] = defaultdict(list)
        self._versions: dict[int, list[int]] = defaultdict(list)
        for each in sorted((one for one in answers if one.writes), key=lambda one: one.received):
            known = self._versions[each.user]
            if not known or each.version > known[-1]:
                known.append(each.version)
                self._times[each.user].append(each.received)

    def behind_seconds(self, read: Answer) -> float:
        """How long a newer version had been acknowledged when the read was sent; 0 if none was."""
        number = bisect_left(self._versions[read.user], read.version + 1)
        times = self._times[read.user]
        return max(read.sent - times[number], 0.0) if number < len(times) else 0.0


def observe(answers: Iterable[Answer]) -> Observed:
    """Judges the answers of all clients. A client must not send a request before it has the answer
    to its previous request."""
    ordered = sorted(answers, key=lambda each: each.sent)
    acknowledged = _Acknowledged(ordered)
    written: dict[tuple[int, int], int] = defaultdict(int)
    known: dict[tuple[int, int], int] = defaultdict(int)
    behind: list[float] = []
    stale_own = older = 0
    served: Counter[str] = Counter()
    for each in ordered:
        pair = each.client, each.user
        if each.writes:
            written[pair] = max(written[pair], each.version)
        else:
            behind.append(acknowledged.behind_seconds(each))
            stale_own += each.version < written[pair]
            older += each.version < known[pair]
            served[each.served_by] += 1
        known[pair] = max(known[pair], each.version)
    return Observed(
        reads=len(behind),
        stale=sum(1 for seconds in behind if seconds > 0),
        stale_own=stale_own,
        older=older,
        oldest_ms=round(max(behind, default=0.0) * 1000, 1),
        served_by=dict(served),
    )
