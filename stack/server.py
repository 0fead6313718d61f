"""One server process: started, recognised, ended, found again after a crash."""

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
from .errors import ServerFailed, explained
from .files import read_json, write_json
from .owner import ServerUser, home_of, open_home, server_user
from .processes import Recorded

_START_SECONDS = 60.0  # a crash recovery with much log to read takes a while
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.005
_LOG_LIMIT_BYTES = 10_000_000


class Server(ABC):
    """A server with a folder of its own below the home of `root`.

    Guarantees: `start` returns when *this* process (by its pid, not just somebody on the port)
    answers; data and port are kept from run to run; a port that a stranger holds is changed; what
    an earlier run left behind is ended first; a stranger is never touched. All are idempotent.
    """

    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.root = Path(root)
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.RLock()

    # What a kind of server must say for itself.

    @abstractmethod
    def _prepare(self) -> None:
        """Make what must exist before the first start."""

    @abstractmethod
    def _configure(self, port: int) -> list[str]:
        """Write the configuration for this start and return the command."""

    @abstractmethod
    def _answers(self, pid: int, port: int) -> bool:
        """Whether that very process serves on that port."""

    @property
    @abstractmethod
    def data(self) -> Path:
        """The working directory of the running server: how an orphan is recognised."""

    # What all of them do.

    @property
    def directory(self) -> Path:
        return home_of(self.root) / self.name

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def port(self) -> int:
        """The port of the last start; 0 before the first."""
        return int(read_json(self._state).get("port", 0))

    @property
    def pid(self) -> int | None:
        """The running server's pid, whoever started it; None when it doesn't run."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        recorded = self._recorded()
        return recorded.pid if recorded and recorded.is_running else None

    def start(self) -> None:
        """Return when it answers. Raises StackError."""
        with self._changing:
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
        """End it in good order, with its data on disk; also one that another run left behind."""
        with self._changing:
            if (pid := self.pid) is not None:
                processes.send([pid], self.stop_signal)
                if self._outlives(pid, timeout_seconds=_STOP_SECONDS):
                    self.kill()
            self._end_leftovers()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would: nothing is flushed, helpers may be left behind."""
        with self._changing:
            if (pid := self.pid) is not None:
                processes.send([pid], signal.SIGKILL)
                self._outlives(pid, timeout_seconds=_STOP_SECONDS)

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
        user.give(self.directory)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".1"))

    def _launch(self) -> None:
        # A stranger may take the port between our look and the server's: look again.
        for _ in range(3):
            port = ports.free_port(preferred=self.port or None)
            write_json(self._state, {"port": port})
            command = self._configure(port)
            with self.log.open("ab") as log:
                begins = log.tell()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
                    **self.user.popen_arguments(),
                )
            pid = self._process.pid
            write_json(
                self._state,
                {"port": port, "pid": pid, "identity": processes.identity(pid) or ""},
            )
            if self._gets_ready(pid, port):
                return
            if ports.is_free(port):
                break
        raise ServerFailed(self.name, self._reason(begins), self.log)

    def _gets_ready(self, pid: int, port: int) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while self.pid == pid and time.monotonic() < deadline:
            if self._answers(pid, port):
                return True
            time.sleep(_POLL_SECONDS)
        self.kill()
        return False

    def _outlives(self, pid: int, *, timeout_seconds: float) -> bool:
        if self._process is not None and self._process.pid == pid:
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                return True
            return False
        return bool(processes.wait_gone([pid], timeout_seconds=timeout_seconds))

    def _end_leftovers(self) -> None:
        """End what an earlier run left: the server itself and its orphaned helpers."""
        if not self.directory.exists():
            return
        recorded = self._recorded()
        main = [recorded.pid] if recorded and recorded.is_running else []
        processes.send(main, self.stop_signal)
        processes.wait_gone(main, timeout_seconds=_STOP_SECONDS)
        for number in (signal.SIGQUIT, signal.SIGKILL):
            left = processes.working_in(self.data, executable=self.program)
            processes.send(left, number)
            if not processes.wait_gone(left, timeout_seconds=2.0):
                return

    def _reason(self, begins: int) -> str:
        """The most telling line the server wrote since `begins`."""
        with self.log.open("rb") as log:
            log.seek(begins)
            lines = log.read().decode(errors="replace").splitlines()
        # A full disk shows as many errors; the others only follow from it.
        full = [line for line in lines if "No space left" in line]
        telling = [line for line in lines if any(word in line for word in _TELLING)]
        return (full or telling or lines[-1:] or ["it said nothing"])[0].strip()


_TELLING = ("FATAL", "PANIC", "rror:", "atal", "Can't open", "Failed")
