"""The newest version of each key that this process has served."""

import threading
from collections import OrderedDict
from typing import Final

SEEN: Final = 10_000  # keys whose last served version a process remembers


class Seen:
    """The newest version of each key that this process has served: it serves none older."""

    def __init__(self, *, limit: int = SEEN) -> None:
        self._limit = limit
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def newer_than(self, key: str, version: int | None) -> int | None:
        """The version that was seen, if it is newer than this one; else this one is noted."""
        if version is None:
            return None
        with self._lock:
            if (known := self._versions.get(key, version)) > version:
                return known
            self._note(key, version)
        return None

    def note(self, key: str, version: int | None) -> None:
        """What the source itself answered, whatever was seen before."""
        if version is not None:
            with self._lock:
                self._note(key, version)

    def forget(self, key: str) -> None:
        with self._lock:
            self._versions.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._versions.clear()

    def _note(self, key: str, version: int) -> None:
        self._versions[key] = version
        self._versions.move_to_end(key)
        while len(self._versions) > self._limit:
            self._versions.popitem(last=False)
