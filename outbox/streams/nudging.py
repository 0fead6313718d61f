"""Sends nudges without a reply, so that a writer never waits for the stream server.

Tuned for speed; skip this file at a first reading. With a thread and a reply for each nudge, nudges
took a third of the time that the outbox adds to a write. So the server sends no replies, and a
thread only opens the connection. Sending still takes processor time, so after a nudge, writers skip
nudges for an interval. Forked processes share the end of the interval in a memory page (`share`),
and each process opens its own connection (`_reset`). Without the page, a write by 32 processes took
1.4 times as long with its event as without, instead of 1.24 times
(docs/adr/0016-small-batches-under-load.md; `./dev bench --only write_overhead`).
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

# After a nudge, a relay checks the outbox for this long without waiting for another nudge.
CHECKING_SECONDS = 0.008
# After a nudge, a process and its forks skip nudges for this long: the relay's last check sees
# their commits. The time is shorter than CHECKING_SECONDS, because two clocks can differ in speed.
SKIP_SECONDS = 0.9 * CHECKING_SECONDS
EXIT_TIMEOUT_SECONDS = 0.1  # how long an exiting process waits for a connection being opened
RETRY_SECONDS = 1.0  # pause after a failed connection; the relay itself checks at this interval


class Outdated(Exception):
    """The connection works, but may no longer lead to the right server: open another one."""


class Connection(Protocol):
    """Sends nudges and receives no replies."""

    def send(self, label: str) -> None:
        """Pass the nudge to the kernel. Raises Outdated, or another error if the connection is
        broken or a buffer is full."""

    def close(self) -> None: ...


class Nudger:
    """Sends each nudge on a connection that stays open.

    Opening a connection can take long, and fails if the server is down. So a thread opens it, and
    then sends the nudges that were requested in the meantime. If a nudge is lost, with a broken
    connection or a killed process, the event isn't lost: it waits until the relay's next check.

    If `share` was called before a fork, parent and child skip nudges after either has sent one.
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
        self._logged = ""  # the error that the log has; empty after a success
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.flush, timeout_seconds=EXIT_TIMEOUT_SECONDS)

    def share(self, label: str) -> None:
        """From now on, a nudge of this process or of a fork makes all of them skip nudges."""
        if label not in self._skip_until:
            self._skip_until[label] = c_double.from_buffer(mmap.mmap(-1, 8))

    def nudge(self, label: str) -> None:
        """Send a nudge unless one was sent just before. Returns immediately and never raises."""
        skip_until = self._skip_until.get(label)
        # This check needs no lock. Under load, most commits need nothing else.
        if skip_until is not None and self._clock() < skip_until.value:
            return
        with self._lock:
            self.share(label)
            if self._connection is not None and self._send(self._connection, label):
                return
            self._waiting.add(label)
            if not self._is_opening() and self._clock() >= self._retry_at:
                self._start_opener()

    def flush(self, *, timeout_seconds: float) -> None:
        """Wait until no connection is being opened, or until the timeout."""
        if (opener := self._opener) is not None:
            opener.join(timeout_seconds)

    def close(self) -> None:
        """Disconnect and end all pauses and intervals. The next nudge opens a new connection. A
        connection that is still being opened after RETRY_SECONDS is closed as soon as it is open.
        """
        self.flush(timeout_seconds=RETRY_SECONDS)
        with self._lock:
            self._opener = None
            self._waiting.clear()
            self._disconnect()
            self._retry_at = 0.0
            for skip_until in self._skip_until.values():
                skip_until.value = 0.0

    def _reset(self) -> None:
        # After a fork, the child has the parent's connection but not the parent's other threads.
        # One of those threads may have held the lock.
        self._lock = threading.Lock()
        self._connection = None
        self._opener = None
        self._waiting = set()
        self._retry_at = 0.0

    def _is_opening(self) -> bool:
        return self._opener is not None and self._opener.is_alive()

    def _start_opener(self) -> None:
        opener = threading.Thread(target=self._open, name="nudger", daemon=True)
        try:
            opener.start()
        except RuntimeError as exc:  # the system allows no more threads, or Python exits
            self._pause()
            self._log(exc)
        else:
            self._opener = opener

    def _open(self) -> None:
        connection: Connection | None = None
        try:
            connection = self._open_connection()
        except Exception as exc:  # noqa: BLE001 - the relay checks without nudges too
            self._log(exc)  # without the lock: no commit waits for a log that hangs
        with self._lock:
            is_wanted = self._opener is threading.current_thread()
            if is_wanted:
                self._opener = None
                self._use(connection)
        if not is_wanted and connection is not None:  # `close` hasn't waited longer
            connection.close()

    def _use(self, connection: Connection | None) -> None:
        self._connection = connection
        if connection is None:
            self._pause()
        else:
            self._logged = ""
            for label in self._waiting:
                if not self._send(connection, label):
                    break
        self._waiting.clear()

    def _pause(self) -> None:
        self._retry_at = self._clock() + RETRY_SECONDS

    def _log(self, error: Exception) -> None:
        if str(error) != self._logged:  # a repeated error is logged once
            self._logged = str(error)
            log.warning("relays are not nudged: %s; trying again each second", error)

    def _send(self, connection: Connection, label: str) -> bool:
        # Set before sending, for two reasons: this interval must start before the relay's, and
        # other processes should skip nudges while this process waits for a processor.
        self._skip_until[label].value = self._clock() + SKIP_SECONDS
        try:
            connection.send(label)
        except Exception as exc:  # noqa: BLE001 - the relay checks without nudges
            if not isinstance(exc, Outdated):
                log.info("the nudge connection is broken: %s", exc)
            self._skip_until[label].value = 0.0
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
