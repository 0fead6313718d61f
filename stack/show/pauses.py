"""Pauses that end at the end of a block, or after LONGEST_PAUSE_SECONDS.

After SIGKILL or during SIGSTOP of this process they stay: `./dev down` ends the paused processes.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

from ..processes import send

LONGEST_PAUSE_SECONDS: Final = 10.0


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    with undone(lambda: send(pids, signal.SIGCONT)):
        send(pids, signal.SIGSTOP)
        yield


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` at the end of the block, or earlier if the block takes too long."""
    timer = Timer(LONGEST_PAUSE_SECONDS, undo)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        undo()
