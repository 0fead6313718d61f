"""Threads that must run as long as their process.

If a reader's thread ended alone, its process would continue to renew the lease, and no process
would read the partitions of that reader.
"""

import logging
import threading
import time
from collections.abc import Callable

from ..consuming.parking import one_line

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
LAST_SECONDS = 5.0  # how long the other threads may still run after a thread has failed


class Threads:
    """Starts threads. If one ends before `stopping` is set, or with an error, all others are
    stopped, and the log says why. They are daemons: a thread that hangs doesn't keep the process
    running."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._threads: list[threading.Thread] = []
        self._failed_at: float | None = None

    def start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._run, args=[name, run], name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def join(self) -> bool:
        """Wait until all threads have ended; after a failure, at most LAST_SECONDS. Returns whether
        no thread has failed."""
        for thread in self._threads:
            while thread.is_alive() and not self._is_late():
                thread.join(CHECK_SECONDS)
        return self._failed_at is None

    def _run(self, name: str, run: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            run()
        except BaseException as exc:  # noqa: BLE001 - SystemExit ends a thread silently
            error = exc
        if error is None and self._stopping.is_set():
            return
        why = one_line(error) if error else "it returned"
        log.critical(
            "the thread %s has ended, so this process stops: %s", name, why, exc_info=error
        )
        self._failed_at = time.monotonic()
        self._stopping.set()

    def _is_late(self) -> bool:
        return self._failed_at is not None and time.monotonic() > self._failed_at + LAST_SECONDS
