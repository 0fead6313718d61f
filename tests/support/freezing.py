"""Stops processes for a while, as a debugger or a suspended machine does."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stack import processes


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Send SIGSTOP to the processes, and SIGCONT at the end."""
    stopped = list(pids)
    processes.send(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        processes.send(stopped, signal.SIGCONT)
