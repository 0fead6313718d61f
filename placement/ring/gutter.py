"""Values that a process couldn't store in the ring: the process keeps them for at most a minute.

Benefit: while the ring is down, throttles still count for up to a minute, in each process
separately. An empty gutter adds one check for each key to a `set_many` (`./dev bench --only
ring` measures `set_many`). A reader may skip this module at a first reading.

The name is from Facebook's memcache paper, where the gutter is a spare pool of servers.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LIFE_MS: Final = 60_000  # the longest life of an entry
ENTRIES: Final = 1_000


class Gutter:
    """Key → stored bytes. No entry is older than LIFE_MS."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes | None:
        deadline, stored = self._entries.get(key, (0.0, b""))
        return stored if deadline > time.monotonic() else None

    def set(self, key: str, stored: bytes, life_ms: int | None) -> None:
        seconds = min(LIFE_MS if life_ms is None else life_ms, LIFE_MS) / 1000
        with self._lock:
            self._put(key, time.monotonic() + seconds, stored)

    def add(self, key: str, stored: bytes, life_ms: int | None) -> bool:
        with self._lock:
            if self.get(key) is not None:
                return False
            self.set(key, stored, life_ms)
            return True

    def change(self, key: str, how: Callable[[bytes], bytes]) -> bytes | None:
        """Replace the entry atomically, keep its deadline, return the new entry. None: no entry."""
        with self._lock:
            if (stored := self.get(key)) is None:
                return None
            changed = how(stored)
            self._put(key, self._entries[key][0], changed)
            return changed

    def delete(self, key: str) -> bool:
        if not self._entries:
            return False
        existed = self.get(key) is not None
        with self._lock:
            self._entries.pop(key, None)
        return existed

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def _put(self, key: str, deadline: float, stored: bytes) -> None:
        self._entries[key] = (deadline, stored)
        self._entries.move_to_end(key)
        while len(self._entries) > ENTRIES:
            self._entries.popitem(last=False)
