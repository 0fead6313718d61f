"""Looking again and again, in bounded time, without a busy loop."""

import time
from collections.abc import Iterator


def paced(*, every_seconds: float, within_seconds: float) -> Iterator[None]:
    """Once at once, then every so often until the time is up; the last turn is at its end."""
    deadline = time.monotonic() + within_seconds
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every_seconds, left))
        yield
