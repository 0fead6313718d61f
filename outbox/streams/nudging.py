"""Nudges that nobody answers: a writer that committed waits for no stream server."""

import atexit
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable
from ctypes import c_double
from typing import Protocol

log = logging.getLogger(__name__)

# For so long after a nudge a relay goes on looking, whether or not anybody nudges it.
LOOKING_SECONDS = 0.008
# So long after a nudge, another of the same process or its kin is none: the last look sees what
# is committed until then. It is less by what clocks of two machines may differ in their pace.
SPARED_SECONDS = 0.9 * LOOKING_SECONDS
AT_EXIT_SECONDS = 0.1  # what a line that is still being opened may cost a process that ends
PAUSE_SECONDS = 1.0  # how long a dead server is left alone; the relay looks that often anyway


class Line(Protocol):
    """A way to the relays that takes a nudge and gives nothing back."""

    def send(self, label: str) -> None:
        """Hand the nudge to the kernel. Raises when the line is cut or full."""

    def close(self) -> None: ...


class Nudger:
    """Sends each label down a line that stays open.

    Opening one may take a while, and a dead server refuses it: that is left to a thread, which
    sends what was asked for meanwhile. What is lost, with a line that was cut or a process that
    was killed, delays an event until the relay looks by itself, and loses nothing.

    A label that was shared before a process forked is nudged for by one of the two for both:
    until when others are spared stands on a page of memory that a fork leaves in common.
    """

    _changing: threading.Lock
    _line: Line | None
    _opening: threading.Thread | None
    _waiting: set[str]
    _quiet_until: float

    def __init__(
        self, open_line: Callable[[], Line], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_line = open_line
        self._clock = clock
        self._spared_until: dict[str, c_double] = {}
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)
        atexit.register(self.flush, timeout_seconds=AT_EXIT_SECONDS)

    def share(self, label: str) -> None:
        """Have processes that fork from here on spare each other's nudges, and their parent's."""
        if label not in self._spared_until:
            self._spared_until[label] = c_double.from_buffer(mmap.mmap(-1, 8))

    def nudge(self, label: str) -> None:
        """Returns at once. Never raises."""
        spared_until = self._spared_until.get(label)
        # Outside the lock: for most commits under load this is all that there is to do.
        if spared_until is not None and self._clock() < spared_until.value:
            return
        with self._changing:
            self.share(label)
            if self._line is not None and self._sent(self._line, label):
                return
            self._waiting.add(label)
            if self._opening is None and self._clock() >= self._quiet_until:
                self._opening = threading.Thread(target=self._open, name="nudger", daemon=True)
                self._opening.start()

    def flush(self, *, timeout_seconds: float) -> None:
        """Return when no line is being opened, or when the time is up."""
        if (opening := self._opening) is not None:
            opening.join(timeout_seconds)

    def close(self) -> None:
        """Hang up, and forget that a server was dead; the next nudge opens a line."""
        self.flush(timeout_seconds=PAUSE_SECONDS)
        with self._changing:
            self._hang_up()
            self._quiet_until = 0.0
            for spared_until in self._spared_until.values():
                spared_until.value = 0.0

    def _begin_anew(self) -> None:
        # A fork has no thread but its own, maybe a lock that another thread held, and a line that
        # is its parent's.
        self._changing = threading.Lock()
        self._line = None
        self._opening = None
        self._waiting = set()
        self._quiet_until = 0.0

    def _open(self) -> None:
        line: Line | None = None
        try:
            line = self._open_line()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the relay looks by itself
            log.warning("relays are not nudged for a while: %s", exc)
        with self._changing:
            self._opening, self._line = None, line
            if line is None:
                self._quiet_until = self._clock() + PAUSE_SECONDS
            else:
                for label in self._waiting:
                    if not self._sent(line, label):
                        break
            self._waiting.clear()

    def _sent(self, line: Line, label: str) -> bool:
        # Before it is sent, and so before the relay takes it: and while this process waits for
        # a processor, others need not send the same.
        self._spared_until[label].value = self._clock() + SPARED_SECONDS
        try:
            line.send(label)
        except Exception as exc:  # noqa: BLE001 - likewise
            log.info("the line to the relays is cut: %s", exc)
            self._spared_until[label].value = 0.0
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
