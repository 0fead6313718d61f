"""Restarts dead servers without blocking the supervisor's loop."""

import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from .errors import StackError
from .terminal import Output

RETRY_SECONDS: Final = 2.0


class Restartable(Protocol):
    name: str

    @property
    def pid(self) -> int | None: ...
    @property
    def port(self) -> int: ...
    def start(self) -> None: ...


class ServerWatch:
    """Restarts dead servers. Crash recovery may take long, so each start runs in a thread.

    `moved` names the first server that got another port at its restart, because another process
    uses the old port. The environment of the running processes then has the wrong address.
    """

    def __init__(self, servers: Sequence[Restartable], *, output: Output) -> None:
        self._servers = servers
        self._output = output
        self._starting: dict[str, threading.Thread] = {}
        self._due_at: dict[str, float] = {}
        self._ports = {server.name: server.port for server in servers}
        self.moved: str | None = None

    def restart_dead(self) -> None:
        """Restart dead servers in the background; never blocks."""
        for server in self._servers:
            thread = self._starting.get(server.name)
            if thread is not None and not thread.is_alive():
                del self._starting[server.name]
            elif thread is None and server.pid is None:
                self._restart(server)

    def states(self) -> list[tuple[str, int | None, str]]:
        """Return (name, pid, state) of each server."""
        return [
            (server.name, None, "restarting")
            if server.name in self._starting or server.pid is None
            else (server.name, server.pid, "running")
            for server in self._servers
        ]

    def finish(self) -> None:
        """Wait for the starts in progress, so that no server starts after a stop."""
        for thread in self._starting.values():
            thread.join()

    def _restart(self, server: Restartable) -> None:
        if time.monotonic() < self._due_at.get(server.name, 0.0):
            return
        self._output.warn(f"{server.name} died; starting it again now")
        thread = threading.Thread(target=self._start, args=[server], name=server.name)
        self._starting[server.name] = thread
        self._due_at[server.name] = time.monotonic() + RETRY_SECONDS
        thread.start()

    def _start(self, server: Restartable) -> None:
        try:
            server.start()
        except StackError as error:
            self._output.warn(str(error))
            return
        except Exception as error:  # noqa: BLE001 - `restart_dead` tries again after any error
            self._output.warn(f"cannot start {server.name}: {error!r}")
            return
        if server.port != self._ports[server.name]:
            self.moved = server.name
