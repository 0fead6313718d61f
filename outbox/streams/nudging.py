"""Nudges without a reply: a writer never waits for the stream server.

Tuned, skip at a first reading. A thread and a reply for each nudge were a third of the outbox's
cost for a writer, so the server sends no replies, and a thread only opens the connection. A nudge
still costs its sender, the stream server and the kernel a good part of what the row costs the
database, so under load most nudges are skipped. Forked processes share the end of that interval on
a page of memory (`share`), and each opens its own connection (`_reset`). `./dev bench --only
write_overhead` measures both; see docs/adr/0016-small-batches-under-load.md.
"""

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

# A relay keeps checking for so long after a nudge, without another one.
CHECKING_SECONDS = 0.008
# A process and its forks skip nudges for so long after one: the relay's last check sees commits up
# to then. It is shorter, because the clocks of two machines can run at different rates.
SKIP_SECONDS = 0.9 * CHECKING_SECONDS
EXIT_TIMEOUT_SECONDS = 0.1  # how long an exiting process waits for a connection being opened
RETRY_SECONDS = 1.0  # before the next try after a failed one; the relay checks as often without it


class Connection(Protocol):
    """Takes nudges and returns no replies."""

    def send(self, label: str) -> None:
        """Pass the nudge to the kernel. Raises if the connection is broken or its buffer full."""

    def close(self) -> None: ...


class Nudger:
    """Sends each nudge on a connection that stays open.

    Opening one can take a while, and a dead server refuses it. So a thread opens it, and then sends
    the nudges that were asked for in the meantime. A nudge that is lost, with a broken connection
    or a killed process, delays an event until the relay's next check, and loses nothing.

    If a label was shared before a fork, a nudge of one process also counts for the other.
    """

    _lock: threading.Lock
    _connection: Connection | None
    _opener: threading.Thread | None
    _waiting: set[str]
    _retry_at: float

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_connection = open_connection
        self._clock = clock
        self._skip_until: dict[str, c_double] = {}
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.flush, timeout_seconds=EXIT_TIMEOUT_SECONDS)

    def share(self, label: str) -> None:
        """From now on, forked processes and their parent skip nudges for each other's."""
        if label not in self._skip_until:
            self._skip_until[label] = c_double.from_buffer(mmap.mmap(-1, 8))

    def nudge(self, label: str) -> None:
        """Returns at once. Never raises."""
        skip_until = self._skip_until.get(label)
        # Without the lock: for most commits under load nothing else happens.
        if skip_until is not None and self._clock() < skip_until.value:
            return
        with self._lock:
            self.share(label)
            if self._connection is not None and self._send(self._connection, label):
                return
            self._waiting.add(label)
            if self._opener is None and self._clock() >= self._retry_at:
                self._opener = threading.Thread(target=self._open, name="nudger", daemon=True)
                self._opener.start()

    def flush(self, *, timeout_seconds: float) -> None:
        """Wait until no connection is being opened, or for the timeout."""
        if (opener := self._opener) is not None:
            opener.join(timeout_seconds)

    def close(self) -> None:
        """Disconnect, and forget failures and nudges; the next nudge opens a connection."""
        self.flush(timeout_seconds=RETRY_SECONDS)
        with self._lock:
            self._disconnect()
            self._retry_at = 0.0
            for skip_until in self._skip_until.values():
                skip_until.value = 0.0

    def _reset(self) -> None:
        # A forked process has only the thread that forked it, perhaps a lock that another thread
        # held, and its parent's connection.
        self._lock = threading.Lock()
        self._connection = None
        self._opener = None
        self._waiting = set()
        self._retry_at = 0.0

    def _open(self) -> None:
        connection: Connection | None = None
        try:
            connection = self._open_connection()
        except Exception as exc:  # noqa: BLE001 - after any error the relay still checks by itself
            log.warning("relays are not nudged for %s s: %s", RETRY_SECONDS, exc)
        with self._lock:
            self._opener, self._connection = None, connection
            if connection is None:
                self._retry_at = self._clock() + RETRY_SECONDS
            else:
                for label in self._waiting:
                    if not self._send(connection, label):
                        break
            self._waiting.clear()

    def _send(self, connection: Connection, label: str) -> bool:
        # Set before sending, so that the interval starts before the relay's, and other processes
        # skip their nudges while this one waits for a processor.
        self._skip_until[label].value = self._clock() + SKIP_SECONDS
        try:
            connection.send(label)
        except Exception as exc:  # noqa: BLE001 - likewise
            log.info("the nudge connection is broken: %s", exc)
            self._skip_until[label].value = 0.0
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
