"""Functions that wait for a time, or until a condition is true."""

import threading
import time
from collections.abc import Callable

_never = threading.Event()


def pause(seconds: float) -> None:
    _never.wait(seconds)


def wait_until(
    condition: Callable[[], bool], *, look_every_seconds: float, within_seconds: float, what: str
) -> None:
    """Raises RuntimeError with `what` if the condition isn't true in time. Each check slows the
    measured processes a little: choose the longest interval that is precise enough."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_seconds:.0f} s: {what}")
        pause(look_every_seconds)
