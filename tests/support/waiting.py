"""Waits for a condition, with a deadline, instead of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import Any

LOOK_EVERY_SECONDS = 0.005


def eventually(condition: Callable[[], Any], *, within_seconds: float, what: str) -> Any:
    """Check every 5 ms until the condition is true, and return its value.

    Raises AssertionError with the text `what` if the condition isn't true in time.
    """
    never = threading.Event()
    deadline = time.monotonic() + within_seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {what}")
        never.wait(LOOK_EVERY_SECONDS)
    return found
