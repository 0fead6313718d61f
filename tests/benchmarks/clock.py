"""Letting time pass: at a pace, or until something has happened."""

import threading
import time
from collections.abc import Callable

_never = threading.Event()


def pause(seconds: float) -> None:
    _never.wait(seconds)


def wait_until(
    condition: Callable[[], bool], *, look_every_seconds: float, within_seconds: float, what: str
) -> None:
    """Raises RuntimeError, naming `what`, if it isn't so in time. Every look costs whatever is
    being measured a little: look as seldom as the measurement bears."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_seconds:.0f} s: {what}")
        pause(look_every_seconds)
