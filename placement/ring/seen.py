"""The newest version of each key that this process has served."""

import threading
from collections import OrderedDict
from typing import Final

SEEN: Final = 10_000  # keys whose last served version a process remembers


class Seen:
    """Remembers the served versions, so that a process can refuse older versions."""

    def __init__(self, *, limit: int = SEEN) -> None:
        self._limit = limit
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def newer_than(self, key: str, version: int | None) -> int | None:
        """Return the recorded version if it is newer than `version`; otherwise record `version`."""
        if version is None:
            return None
        with self._lock:
            if (known := self._versions.get(key, version)) > version:
                return known
            self._record(key, version)
        return None

    def version_of(self, key: str) -> int | None:
        """The recorded version, for `record`."""
        with self._lock:
            return self._versions.get(key)

    def record(self, key: str, version: int | None, *, before: int | None) -> None:
        """Record the version that a load returned; `before` was recorded when the load began. If
        this is a newer version, the database has gone back, as after a restore. If a newer version
        was recorded during the load, it stays: the load read before a change that another read has
        shown."""
        if version is not None:
            with self._lock:
                known = self._versions.get(key)
                if known is None or known == before or known < version:
                    self._record(key, version)

    def forget(self, key: str) -> None:
        with self._lock:
            self._versions.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._versions.clear()

    def _record(self, key: str, version: int) -> None:
        self._versions[key] = version
        self._versions.move_to_end(key)
        while len(self._versions) > self._limit:
            self._versions.popitem(last=False)
