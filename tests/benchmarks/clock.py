"""Waiting: for a time, or for a condition."""

import threading
import time
from collections.abc import Callable

_never = threading.Event()


def pause(seconds: float) -> None:
    _never.wait(seconds)


def wait_until(
    condition: Callable[[], bool], *, look_every_seconds: float, within_seconds: float, what: str
) -> None:
    """Raises RuntimeError, naming `what`, if the condition isn't true in time. Each check slows the
    measured processes a little: check as seldom as the precision allows."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_seconds:.0f} s: {what}")
        pause(look_every_seconds)
