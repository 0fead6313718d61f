"""Pauses that end at the end of a block, at a signal, or after LONGEST_PAUSE_SECONDS.

After SIGKILL or during SIGSTOP of this process they stay: `./dev down` ends the paused processes.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

from ..processes import send

LONGEST_PAUSE_SECONDS: Final = 10.0


def undo_at_signals() -> None:
    """Exit at these signals by an exception, so that each block ends its pause."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _exit)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)


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
