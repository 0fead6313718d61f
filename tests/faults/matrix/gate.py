"""Where a process that came to its crash point waits for what is to become of it.

The process connects, says where it is, and blocks; the harness makes the fault happen and then
lets it go on or has it die there, by os._exit. Neither side waits for ever.
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
    """A process that waits at its crash point."""

    pid: int
    connection: socket.socket

    def go_on(self, *, come_again_after: int, clock_ms: int = 0) -> None:
        self._say(f"{come_again_after} {clock_ms}")

    def die(self) -> None:
        self._say("die")

    def _say(self, text: str) -> None:
        try:
            self.connection.sendall(f"{text}\n".encode())
        except OSError:
            return  # it was killed at the point
        finally:
            self.connection.close()


class Gate:
    """The harness's side."""

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
    """The process's side: called each time the point is reached, it stops there at one of them."""

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
        again, self.clock_ms = (int(part) for part in answer)
        with self._counting:
            self._left = again


def die() -> NoReturn:
    os._exit(DIED)
