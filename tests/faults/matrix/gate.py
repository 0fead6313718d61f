"""Holds a process at its crash point.

The process connects, sends its pid and blocks. The harness causes the fault, and then lets the
process continue or end there with os._exit. Both sides wait only for a limited time.
"""

import os
import socket
import threading
from dataclasses import dataclass
from typing import NoReturn

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 60.0
DIED = 86  # the exit status of a process that died at its point


@dataclass(frozen=True, slots=True)
class Arrival:
    """A process at its crash point."""

    pid: int
    connection: socket.socket

    def resume(self, *, clock_ms: int = 0) -> None:
        """Lets the process continue. The process doesn't stop at the point again."""
        self._say(f"go {clock_ms}")

    def die(self) -> None:
        self._say("die")

    def _say(self, text: str) -> None:
        try:
            self.connection.sendall(f"{text}\n".encode())
        except OSError:
            return  # the process was killed at the point
        finally:
            self.connection.close()


class Gate:
    """The harness's end of the connection: accepts a process at its crash point."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]

    def arrival(self, *, within_seconds: float) -> Arrival | None:
        self._listener.settimeout(within_seconds)
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return None
        connection.settimeout(PATIENCE_SECONDS)
        return Arrival(int(connection.recv(64)), connection)

    def close(self) -> None:
        self._listener.close()


class Reach:
    """The process's end: called at each visit of the point, holds the process at visit `hit`."""

    def __init__(self, port: int, *, hit: int) -> None:
        self._port = port
        self._left = hit
        self._counting = threading.Lock()
        self.clock_ms = 0

    def __call__(self) -> None:
        with self._counting:
            self._left -= 1
            arrived = self._left == 0
        if arrived:
            self._wait()

    def _wait(self) -> None:
        with socket.create_connection((LOOPBACK, self._port), timeout=PATIENCE_SECONDS) as there:
            there.sendall(str(os.getpid()).encode())
            answer = there.recv(64).decode().split()
        if len(answer) != 2:
            die()
        self.clock_ms = int(answer[1])


def die() -> NoReturn:
    os._exit(DIED)
