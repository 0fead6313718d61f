"""Nudges from a thread of their own: a writer that committed waits for no stream server."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger(__name__)

AT_EXIT_SECONDS = 0.1  # what the last nudge of an ending process may cost it
# From one nudge to the next, and from one drain of a relay to the next, at least: under load, what
# comes meanwhile goes in one batch. It costs an event that comes alone nothing.
REST_SECONDS = 0.008


class Nudger:
    """Calls `send` with each label, soon and in a daemon thread, which begins with the first.

    Labels that come while one is being sent, or in the rest after it, are sent once. What a
    process that ends (or is killed) doesn't send delays an event until the relay looks by itself,
    and loses nothing.
    """

    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send
        self._starting = threading.Lock()
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)
        atexit.register(self.flush, timeout_seconds=AT_EXIT_SECONDS)

    def nudge(self, label: str) -> None:
        """Returns at once. Never raises."""
        self._asked.put(label)
        if not self._is_started:
            self._start()

    def flush(self, *, timeout_seconds: float) -> None:
        """Return when all that was asked for by now was sent, or when the time is up."""
        if self._is_started:
            sent = threading.Event()
            self._asked.put(sent)
            sent.wait(timeout_seconds)

    def _begin_anew(self) -> None:
        # A fork has no thread but its own, and maybe a queue that another thread held.
        self._asked: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._is_started = False

    def _start(self) -> None:
        with self._starting:
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._keep_sending, name="nudger", daemon=True).start()

    def _keep_sending(self) -> None:
        rested = 0.0
        while True:
            asked = [self._asked.get()]
            if (early := rested - time.monotonic()) > 0 and isinstance(asked[0], str):
                time.sleep(early)
            while not self._asked.empty():
                asked.append(self._asked.get())
            rested = time.monotonic() + REST_SECONDS
            for label in {one for one in asked if isinstance(one, str)}:
                try:
                    self._send(label)
                except Exception:
                    # Nobody waits for it; the next label may do.
                    log.exception("the relay of %s was not nudged", label)
            for sent in asked:
                if isinstance(sent, threading.Event):
                    sent.set()
