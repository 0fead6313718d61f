"""Logs a position that doesn't move although no other process moves it."""

import logging
import time
from collections.abc import Callable

from ..errors import Fenced
from .delivery import Delivery

log = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0


class Fence:
    """One event's position. `Fenced` is usual if another process has moved the position. If the
    position is still the same, something else keeps it, and the reader would try again in silence:
    then one line says so, and one each minute how long this has lasted, and one that it has ended.
    """

    def __init__(
        self, reader: str, delivery: Delivery, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = (reader, delivery.partition, delivery.id, delivery.key or "unknown")
        self._clock = clock
        self._since: float | None = None
        self._due = 0.0

    def note(self, error: Exception, *, before: str | None, after: str | None) -> None:
        """After an error, compare the position before the try with the stored position."""
        if not isinstance(error, Fenced) or before != after:
            self.end()
            return
        now = self._clock()
        if self._since is None:
            self._since = self._due = now
        if now >= self._due:
            self._due = now + REPEAT_SECONDS
            log.warning(
                "%s can't move its position in partition %d to %s (key %s), for %.0f s: the "
                "position stays at %s, and no other process moves it",
                *self._what,
                now - self._since,
                after,
            )

    def end(self) -> None:
        """The position has moved, or the try failed for another reason."""
        if self._since is not None:
            seconds = self._clock() - self._since
            log.warning("%s is no longer fenced, after %.0f s", self._what[0], seconds)
        self._since = None
