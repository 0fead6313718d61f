"""Starts and stops one server process, and finds it again after a crash of the supervisor."""

import os
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from . import ports, processes
from .binaries import Binaries
from .errors import ServerFailed, StackError, explained
from .files import read_json, write_json
from .owner import ServerUser, home_of, open_home, server_user
from .processes import Recorded

_START_SECONDS = 60.0  # a crash recovery with much WAL takes long
_STOP_SECONDS = 20.0
_QUIT_SECONDS = 2.0  # for a server that earlier ignored its stop signal
_POLL_SECONDS = 0.005
_LOG_LIMIT_BYTES = 10_000_000


class Server(ABC):
    """A server with its own folder below the home of `root`.

    `start` returns when the new process is ready; it checks the pid, not only the port. All
    runs use the same data. The port changes only if another process uses it. A start first ends the
    processes that an earlier run left, and no other processes. All methods are idempotent.
    """

    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.root = Path(root)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    @abstractmethod
    def _prepare(self) -> None:
        """Create the server's data if it doesn't exist."""

    @abstractmethod
    def _configure(self, port: int) -> list[str]:
        """Write the configuration for this start and return the server's command."""

    @abstractmethod
    def _is_serving(self, pid: int, port: int) -> bool:
        """Whether the process with this pid serves on this port."""

    @property
    @abstractmethod
    def data(self) -> Path:
        """The working directory of the server, by which `start` finds processes of earlier runs."""

    @property
    def directory(self) -> Path:
        return home_of(self.root) / self.name

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def port(self) -> int:
        """The port of the last start; 0 before the first start."""
        return int(read_json(self._state).get("port", 0))

    @property
    def pid(self) -> int | None:
        """The pid of the running server, even if another process started the server; else None."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        recorded = self._recorded()
        return recorded.pid if recorded and recorded.is_running else None

    def start(self) -> None:
        """Start the server; return when it is ready. Raises StackError."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            try:
                open_home(self.root)
                self._end_leftovers()
                self._make_directory()
                self._prepare()
                self._launch()
            except OSError as error:
                raise explained(error, self.root) from error

    def stop(self) -> None:
        """Shut the server down cleanly, even if another run started it."""
        with self._lock:
            if (pid := self.pid) is not None:
                processes.send([pid], self.stop_signal)
                if not self._exits(pid, timeout_seconds=_STOP_SECONDS):
                    self.kill()
            self._end_leftovers()
            self._process = None

    def kill(self) -> None:
        """Send SIGKILL, as in a crash: the server flushes nothing; helper processes may remain."""
        with self._lock:
            if (pid := self.pid) is not None:
                processes.send([pid], signal.SIGKILL)
                self._exits(pid, timeout_seconds=_STOP_SECONDS)

    @property
    def user(self) -> ServerUser:
        return server_user(self.directory)

    @property
    def binaries(self) -> Binaries:
        return Binaries.reachable(home=home_of(self.root), user=self.user)

    @property
    def _state(self) -> Path:
        return self.directory / "state.json"

    def _recorded(self) -> Recorded | None:
        state = read_json(self._state)
        if "pid" not in state:
            return None
        return Recorded(pid=state["pid"], identity=state["identity"])

    def _make_directory(self) -> None:
        user = self.user
        self.directory.mkdir(exist_ok=True, mode=0o700)
        user.chown(self.directory)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".1"))

    def _launch(self) -> None:
        # If another process binds the port before the server does, try another port.
        for _ in range(3):
            port = ports.free_port(preferred=self.port or None)
            write_json(self._state, {"port": port})
            command = self._configure(port)
            with self.log.open("ab") as log:
                offset = log.tell()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,  # Ctrl-C must not reach the server
                    **self.user.popen_arguments(),
                )
            pid = self._process.pid
            identity = Recorded.of(pid).identity
            write_json(self._state, {"port": port, "pid": pid, "identity": identity})
            if self._becomes_ready(pid, port):
                return
            if ports.is_free(port):
                break
        raise ServerFailed(self.name, self._reason(offset), self.log)

    def _becomes_ready(self, pid: int, port: int) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while self.pid == pid and time.monotonic() < deadline:
            if self._is_serving(pid, port):
                return True
            time.sleep(_POLL_SECONDS)
        self.kill()
        return False

    def _exits(self, pid: int, *, timeout_seconds: float) -> bool:
        if self._process is not None and self._process.pid == pid:
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                return False
            return True
        return not processes.wait_gone([pid], timeout_seconds=timeout_seconds)

    def _end_leftovers(self) -> None:
        """End the processes that an earlier run left: the server and its helper processes.

        Raises StackError if one of them still runs, because two servers would use the same data.
        """
        if not self.directory.exists():
            return
        recorded = self._recorded()
        main = [recorded.pid] if recorded and recorded.is_running else []
        processes.send(main, self.stop_signal)
        processes.wait_gone(main, timeout_seconds=_STOP_SECONDS)
        for number, seconds in ((signal.SIGQUIT, _QUIT_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            # Without /proc, only the server itself is known.
            main = [recorded.pid] if recorded and recorded.is_running else []
            left = processes.working_in(self.data, executable=self.program) or main
            processes.send(left, number)
            left = processes.wait_gone(left, timeout_seconds=seconds)
            if not left:
                return
        raise StackError(
            f"{self.name}: process {left[0]} of an earlier run does not end after SIGKILL; "
            "end it, then try again"
        )

    def _reason(self, offset: int) -> str:
        """The line of the log after `offset` that best explains a failure."""
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").splitlines()
        # A full disk causes many other errors, so it is reported first.
        full = [line for line in lines if "No space left" in line]
        errors = [line for line in lines if any(mark in line for mark in _ERROR_MARKS)]
        return (full or errors or lines[-1:] or ["no output"])[0].strip()


_ERROR_MARKS = ("FATAL", "PANIC", "rror:", "atal", "Can't open", "Failed")
