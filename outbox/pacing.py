"""Polling at an interval, with a time limit."""

import time
from collections.abc import Iterator


def paced(*, every_seconds: float, within_seconds: float) -> Iterator[None]:
    """Yield immediately, then at each interval, and a last time at the end of `within_seconds`."""
    deadline = time.monotonic() + within_seconds
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every_seconds, left))
        yield
