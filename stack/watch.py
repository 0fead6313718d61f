"""Restarts dead servers without blocking the supervisor's loop."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from .errors import StackError
from .runfile import ProcessState
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
        self._failures = Counter[str]()  # consecutive failed starts
        self._reasons: dict[str, str] = {}  # of the last failed start
        self.is_stopping = False
        self.moved: str | None = None

    def restart_dead(self) -> None:
        """Restart dead servers in the background; never blocks."""
        for server in self._servers:
            thread = self._starting.get(server.name)
            if thread is not None and not thread.is_alive():
                del self._starting[server.name]
            elif thread is None and server.pid is None:
                self._restart(server)

    def states(self) -> list[ProcessState]:
        return [self._state_of(server) for server in self._servers]

    def _state_of(self, server: Restartable) -> ProcessState:
        pid = None if server.name in self._starting else server.pid
        if self.is_stopping:
            state = "stopping" if pid else "stopped"
        else:
            state = "running" if pid else "restarting"
        return ProcessState(
            name=server.name,
            pid=pid,
            state=state,
            failures=self._failures[server.name],
            reason=self._reasons.get(server.name, ""),
            kind="server",
        )

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
        except Exception as error:  # noqa: BLE001 - `restart_dead` tries again after any error
            known = isinstance(error, StackError)
            reason = str(error) if known else f"cannot start {server.name}: {error!r}"
            self._failures[server.name] += 1
            self._reasons[server.name] = " ".join(reason.split())
            self._output.warn(self._reasons[server.name])
            return
        self._failures[server.name] = 0
        if server.port != self._ports[server.name]:
            self.moved = server.name
