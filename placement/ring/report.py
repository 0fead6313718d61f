"""Reports the state of the cache ring, and how evenly the ring spreads keys."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import TypedDict

from django.core.cache import caches

from .arrangement import Arrangement, State, View
from .cache import RingCache
from .process import Ring


def default_ring() -> Ring | None:
    """The ring of the default cache; None if the default cache has another backend."""
    backend = caches["default"]
    return backend.ring if isinstance(backend, RingCache) else None


def is_bypassed() -> bool:
    """Whether this process has no confirmed view. Other processes probably have none either."""
    ring = default_ring()
    return ring is not None and ring.members.view(since=time.monotonic()) is None


class NodeReport(TypedDict):
    node: str
    state: State
    keys: int


def node_reports(ring: Ring) -> list[NodeReport]:
    """The `ring` part of `status --json`. A node that doesn't answer is reported as ejected, even
    before any process has ejected it."""
    view = ring.members.view()
    names = [n for n, m in view.members.items() if m.state != "left"] if view else list(ring.urls)
    report: list[NodeReport] = []
    for name in names:
        keys = ring.key_count(name)
        state: State = view.members[name].state if view else "up"
        if state == "up" and keys is None:
            state = "ejected"
        report.append({"node": name, "state": state, "keys": keys or 0})
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How many of `keys` sample keys each node holds, and the share that a change would move."""

    keys: int
    loads: dict[str, int]
    moved_by_join: float
    moved_by_leave: dict[str, float]

    @property
    def max_to_mean(self) -> float:
        return max(self.loads.values()) * len(self.loads) / self.keys


def balance(view: View, *, keys: int) -> Balance | None:
    """Compute the balance for `keys` sample keys; None if no node is up."""
    up = {name: (True, 0) for name, member in view.members.items() if member.is_up}
    if not up:
        return None
    sample = [f"key-{number}" for number in range(keys)]
    now = _holders(Arrangement(up), sample)
    joined = _holders(Arrangement({**up, "another node": (True, 0)}), sample)
    return Balance(
        keys=keys,
        loads={name: Counter(now)[name] for name in up},
        moved_by_join=_moved(now, joined),
        moved_by_leave={
            name: _moved(now, _holders(Arrangement({**up, name: (False, 0)}), sample))
            for name in up
        },
    )


def _holders(arrangement: Arrangement, keys: list[str]) -> list[str]:
    return [place.node if (place := arrangement.place(key)) else "" for key in keys]


def _moved(before: list[str], after: list[str]) -> float:
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
