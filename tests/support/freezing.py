"""Stops processes for a while, as a debugger or a suspended machine does."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Send SIGSTOP to the processes, and SIGCONT at the end."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
