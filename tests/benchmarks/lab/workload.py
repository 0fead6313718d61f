"""Generates the operations of the lab: the same seed always gives the same operations.

The workload is an open loop: each operation has a time at which it is due, even if the system is
slower. Users are chosen by Zipf's law, as in YCSB (Cooper et al., "Benchmarking Cloud Serving
Systems with YCSB", 2010): a few users get most requests.
"""

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

EXPONENT: Final = 0.99  # of Zipf's law, as in YCSB
# Shares of reads, by the name of the mix.
MIXES: Final = {"95/5": 0.95, "50/50": 0.50, "5/95": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    due: float  # seconds after the start
    client: int
    user: int  # the user's number, from 0
    writes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`seed` selects the operations. Two workloads with equal fields are equal."""

    seed: int
    reads: float  # share of all operations, from 0 to 1
    users: int
    clients: int
    per_second: float
    seconds: float

    def operations(self) -> Iterator[Operation]:
        """Yields the operations in the order of their times.

        A read that follows a write is the writer's own read of this user: a client that saves a
        page is redirected to the page.
        """
        random_ = random.Random(self.seed)  # noqa: S311 - not a secret
        popular = Popularity(self.users, seed=self.seed)
        client, user, wrote = 0, 0, False
        for number in range(round(self.per_second * self.seconds)):
            writes = random_.random() >= self.reads
            if writes or not wrote:
                client, user = random_.randrange(self.clients), popular.choose(random_)
            yield Operation(due=number / self.per_second, client=client, user=user, writes=writes)
            wrote = writes


class Popularity:
    """Zipf's law: of `users` users, the one with rank r gets a share proportional to 1 / r^s.

    The ranks are shuffled, so that popular users don't have neighbouring numbers.
    """

    def __init__(self, users: int, *, seed: int) -> None:
        self._sums = list(accumulate(1 / rank**EXPONENT for rank in range(1, users + 1)))
        self._ranked = list(range(users))
        random.Random(seed).shuffle(self._ranked)  # noqa: S311 - not a secret

    def choose(self, random_: random.Random) -> int:
        return self._ranked[bisect_left(self._sums, random_.random() * self._sums[-1])]


def of_process(operations: Iterator[Operation], *, process: int, of: int) -> list[Operation]:
    """The operations of one of several processes. All operations of a client are in one process."""
    return [each for each in operations if each.client % of == process]


def by_thread(
    operations: Sequence[Operation], *, threads: int, processes: int = 1
) -> list[list[Operation]]:
    """The operations of each thread. A client has one thread, so it sends one request at a time."""
    found: list[list[Operation]] = [[] for _ in range(threads)]
    for each in operations:
        found[each.client // processes % threads].append(each)
    return found
