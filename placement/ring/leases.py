"""Reads through the ring: one load each time a key expires, and never an older version than before.

On a miss, one reader acquires the key's lease and loads the value; other readers wait for it. An
invalidation revokes the lease, so an earlier load isn't stored. The leases are those of Nishtala et
al., "Scaling Memcache at Facebook" (2013), 3.2.1; the early refresh of hot keys is XFetch, by
Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (2015).
"""

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from math import log as ln
from typing import Any, Final, Literal

from ..served_by import record
from .arrangement import Place
from .errors import NodeFailed, ValueTooLarge
from .process import Ring
from .values import Entry, version_of

log = logging.getLogger(__name__)

LEASE_MS: Final = 3_000  # the value of a slower load isn't stored; another reader loads
WAIT_SECONDS: Final = 4.0  # after this, a waiting reader loads without a lease
PAUSE_SECONDS: Final = (0.002, 0.050)  # the first and the longest pause of a waiting reader
MAX_LOADS: Final = 3  # if the ring refuses each value; the last value is served and not stored
JITTER: Final = 0.1  # share of a value's life; keys that are loaded together don't expire together
EAGERNESS: Final = 1.0  # of early refreshes; XFetch calls this factor beta

Load = Callable[[], Any]


class Reader:
    """One read of one key. `life_ms` is None for a value that doesn't expire."""

    def __init__(
        self, ring: Ring, key: str, load: Load, *, life_ms: int | None, negative_ms: int
    ) -> None:
        self.ring = ring
        self.key = key
        self.load = load
        self.life_ms = life_ms
        self.negative_ms = negative_ms
        self._loads_left = MAX_LOADS

    def read(self) -> Any:
        """The ring's value, or the result of `load`. Raises NotCacheable and `load`'s errors."""
        deadline = time.monotonic() + WAIT_SECONDS
        pause = PAUSE_SECONDS[0]
        while time.monotonic() < deadline:
            place = self.ring.place(self.key)
            if place is None:
                break
            try:
                done, value = self._try_read(place)
            except NodeFailed:
                break
            if done:
                return value
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            pause = min(pause * 2, PAUSE_SECONDS[1])
        self.ring.count("bypassed")
        return self._timed_load()[0]

    def _try_read(self, place: Place) -> tuple[bool, Any]:
        """Return (True, value), or (False, …) if the reader has to try again."""
        token, asked = self.ring.token(), time.monotonic()
        with self.ring.node(place.node) as node:
            stored, left_ms = node.get_or_lease(place, self.key, token=token, lease_ms=LEASE_MS)
        has_moved = self.ring.has_moved(place, asked=asked)
        if stored is None:
            return self._miss(place, token, has_lease=bool(left_ms), has_moved=has_moved)
        if has_moved:
            return False, None
        entry = self.ring.decoded(stored)
        if entry is not None and (seen := self.ring.seen.newer_than(self.key, entry.version)):
            self.ring.count("went_back")
            with self.ring.node(place.node) as node:
                node.invalidate([(self.key, place)], {self.key: seen})
            return False, None
        if entry is None or _should_refresh(entry, left_ms):
            with self.ring.node(place.node) as node:
                leased = node.lease(place, self.key, token=token, lease_ms=LEASE_MS)
            if leased:
                return self._refresh(place, token, entry)
            if entry is None:
                return False, None
        self.ring.count("hits")
        record(self.ring.label(place.node))
        return True, entry.value

    def _miss(
        self, place: Place, token: str, *, has_lease: bool, has_moved: bool
    ) -> tuple[bool, Any]:
        if has_lease and not has_moved:
            return self._fill(place, token, why="miss")
        if has_lease:  # perhaps only the store was silent, and others still read at this place
            self._release(place, token)
        elif not has_moved:
            self.ring.count("waits")
        return False, None

    def _refresh(self, place: Place, token: str, entry: Entry | None) -> tuple[bool, Any]:
        try:
            return self._fill(place, token, why="refresh")
        except Exception:
            if entry is None:
                raise
            log.warning("%s: the early refresh failed", self.key, exc_info=True)
            return True, entry.value  # the value hasn't expired yet

    def _fill(
        self, place: Place, token: str, *, why: Literal["miss", "refresh"]
    ) -> tuple[bool, Any]:
        """Load under the lease and store the value; returns the same as `_try_read`."""
        try:
            value, load_ms = self._timed_load()
            encoded = self.ring.encoded(self.key, value, load_ms=load_ms)
        except BaseException as exc:
            self._release(place, token)
            if isinstance(exc, ValueTooLarge):
                log.error("not cached: %s", exc)
                return True, value
            raise
        life_ms = self._life_of(value, encoded.version)
        try:
            with self.ring.node(place.node) as node:
                answer = node.fill(place, self.key, encoded, token=token, life_ms=life_ms, why=why)
        except NodeFailed:
            return True, value
        if answer == 1:
            return True, value
        self.ring.count("refused")
        # The loaded value may be older than a value that other processes have read since.
        again = answer == 2 or (encoded.version is not None and self._loads_left > 0)
        return not again, value

    def _timed_load(self) -> tuple[Any, int]:
        """Load the value; returns the value and the duration in ms."""
        self._loads_left -= 1
        self.ring.count("loads")
        started, before = time.monotonic(), self.ring.seen.version_of(self.key)
        value = self.load()
        self.ring.seen.record(self.key, version_of(value), before=before)
        return value, round((time.monotonic() - started) * 1000)

    def _release(self, place: Place, token: str) -> None:
        with suppress(NodeFailed), self.ring.node(place.node) as node:  # else the lease expires
            node.release(place, self.key, token=token)

    def _life_of(self, value: Any, version: int | None) -> int | None:
        life_ms = self.life_ms
        if version is not None and value[1] is None:
            life_ms = self.negative_ms if life_ms is None else min(life_ms, self.negative_ms)
        if life_ms is None:
            return None
        return max(1, round(life_ms * (1 - random.uniform(0, JITTER))))  # noqa: S311 - no secret


def _should_refresh(entry: Entry, left_ms: int) -> bool:
    """Whether this reader reloads the value before it expires. The probability grows as the expiry
    approaches, and with the duration of a load."""
    if left_ms < 0:
        return False
    chance = 1 - random.random()  # noqa: S311 - in (0, 1], not a secret
    return max(entry.load_ms, 1) * EAGERNESS * -ln(chance) >= left_ms
