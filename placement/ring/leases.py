"""Reads through the ring: one load per key and expiry, and never an older version than before.

Who misses takes the key's lease and loads; the others wait for what it stores. An invalidation
takes the lease away, so what was loaded before it is refused. The leases are those of Nishtala et
al., "Scaling Memcache at Facebook" (2013), 3.2.1; the early refresh of hot keys is XFetch, of
Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (2015).
"""

import logging
import random
import time
from collections.abc import Callable
from math import log as ln
from typing import Any, Final, Literal

from . import values as ring_values
from .arrangement import Place
from .errors import NodeFailed, ValueTooLarge
from .process import Ring
from .values import Entry

log = logging.getLogger(__name__)

LEASE_MS: Final = 3_000  # a load that takes longer isn't stored, and the next reader loads
WAIT_SECONDS: Final = 4.0  # then a reader that waited loads for itself
LOOK_AGAIN_SECONDS: Final = (0.002, 0.050)  # the first and the longest pause of who waits
FRESH_LOADS: Final = 3  # after refused ones, the last is served and not stored
JITTER: Final = 0.1  # of a loaded value's life, so that keys loaded together don't expire so
EAGERNESS: Final = 1.0  # of early refreshes (beta)

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
        self._loads_left = FRESH_LOADS

    def read(self) -> Any:
        """The value: the ring's, or what `load` gave. Raises only what `load` raises."""
        deadline = time.monotonic() + WAIT_SECONDS
        pause = LOOK_AGAIN_SECONDS[0]
        while time.monotonic() < deadline:
            place = self.ring.place(self.key)
            if place is None:
                break
            try:
                done, value = self._look(place)
            except NodeFailed:
                break
            if done:
                return value
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            pause = min(pause * 2, LOOK_AGAIN_SECONDS[1])
        self.ring.count("bypassed")
        return self._loaded()[0]

    def _look(self, place: Place) -> tuple[bool, Any]:
        token, asked = self.ring.token(), time.monotonic()
        with self.ring.node(place.node) as node:
            stored, left_ms = node.look(place, self.key, token=token, lease_ms=LEASE_MS)
        if self.ring.has_moved(place, asked=asked):
            return False, None
        if stored is None:
            if not left_ms:
                self.ring.count("waits")
                return False, None
            return self._fill(place, token, why="miss")
        entry = self.ring.decoded(stored)
        if entry is not None and (seen := self.ring.seen.newer_than(self.key, entry.version)):
            self.ring.count("went_back")
            with self.ring.node(place.node) as node:
                node.invalidate([(self.key, place)], {self.key: seen})
            return False, None
        if entry is None or _is_soon(entry, left_ms):
            with self.ring.node(place.node) as node:
                leased = node.lease(place, self.key, token=token, lease_ms=LEASE_MS)
            if leased:
                return self._refreshed(place, token, entry)
            if entry is None:
                return False, None
        self.ring.count("hits")
        return True, entry.value

    def _refreshed(self, place: Place, token: str, entry: Entry | None) -> tuple[bool, Any]:
        try:
            return self._fill(place, token, why="refresh")
        except Exception:
            if entry is None:
                raise
            log.warning("%s was not refreshed before its time", self.key, exc_info=True)
            return True, entry.value  # it is good for a while yet

    def _fill(
        self, place: Place, token: str, *, why: Literal["miss", "refresh"]
    ) -> tuple[bool, Any]:
        """Load under the lease; (False, …) when the reader should look again."""
        try:
            value, load_ms = self._loaded()
            encoded = self.ring.encoded(self.key, value, load_ms=load_ms)
        except BaseException as exc:
            self._give_up(place, token)
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
        # What was loaded may be older than what others have seen by now.
        again = answer == 2 or (encoded.version is not None and self._loads_left > 0)
        return not again, value

    def _loaded(self) -> tuple[Any, int]:
        self._loads_left -= 1
        self.ring.count("loads")
        began = time.monotonic()
        value = self.load()
        self.ring.seen.note(self.key, ring_values.version_of(value))
        return value, round((time.monotonic() - began) * 1000)

    def _give_up(self, place: Place, token: str) -> None:
        try:
            with self.ring.node(place.node) as node:
                node.release(place, self.key, token=token)
        except NodeFailed:
            pass  # it runs out by itself

    def _life_of(self, value: Any, version: int | None) -> int | None:
        life_ms = self.life_ms
        if version is not None and value[1] is None:
            life_ms = self.negative_ms if life_ms is None else min(life_ms, self.negative_ms)
        if life_ms is None:
            return None
        return max(1, round(life_ms * (1 - random.uniform(0, JITTER))))  # noqa: S311 - no secret


def _is_soon(entry: Entry, left_ms: int) -> bool:
    """Whether this reader should load before the value expires: the more likely, the less is
    left, the longer loading takes and the more readers there are."""
    if left_ms < 0:
        return False
    chance = 1 - random.random()  # noqa: S311 - in (0, 1], not a secret
    return max(entry.load_ms, 1) * EAGERNESS * -ln(chance) >= left_ms
