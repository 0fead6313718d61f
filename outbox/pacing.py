"""Polling at an interval with a time limit, and log lines that are repeated at an interval."""

import time
from collections.abc import Iterator


def paced(*, every_seconds: float, within_seconds: float) -> Iterator[None]:
    """Yield immediately, then at each interval, and a last time at the end of `within_seconds`."""
    deadline = time.monotonic() + within_seconds
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every_seconds, left))
        yield


class Sparing:
    """Decides whether to log a line: the same line is logged once in `seconds`."""

    def __init__(self, *, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._logged_at: dict[str, float] = {}

    def allows(self, line: str) -> bool:
        now = time.monotonic()
        recent = {text: at for text, at in self._logged_at.items() if now < at + self._seconds}
        self._logged_at = {line: now} | recent
        return line not in recent
