"""Starts one process of the application, logs its output, and ends it."""

import ctypes
import http.client
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from .processes import Recorded, send, session_members
from .terminal import Output, printable

_READ_BYTES = 65_536
_LINE_LIMIT_BYTES = 100_000
_PROBE_SECONDS = 10.0
_LAST_LINES = 20
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

Ready = Callable[["Child"], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start a process, and the function that says whether the process is ready."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    ready: Ready
    inherits: tuple[int, ...] = ()  # file descriptors that the process gets
    stops_in_wave: int = 1  # processes of a wave stop after all lower waves have ended


class Child:
    """A process that runs or has ended. Each line of its stdout and stderr goes to the log.

    The process has its own session, so Ctrl-C in the terminal reaches only the supervisor. On Linux
    the kernel kills the process when the *thread* that started it ends. So start processes in the
    main thread, which ends only with the supervisor.
    """

    def __init__(
        self, spec: ProcessSpec, *, output: Output, selector: selectors.BaseSelector
    ) -> None:
        self.spec = spec
        self.started_at = time.monotonic()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._output = output
        self._selector = selector
        self._unfinished = b""  # the start of a line whose end isn't read yet
        self._process = subprocess.Popen(
            spec.command,
            cwd=spec.directory,
            env=dict(spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=spec.inherits,
            start_new_session=True,
            # This is safe: one system call, which needs no lock that another thread may hold.
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
        self._pipe = cast(IO[bytes], self._process.stdout)
        self.pid = self._process.pid
        self.recorded = Recorded.of(self.pid)
        os.set_blocking(self._pipe.fileno(), False)
        self._selector.register(self._pipe, selectors.EVENT_READ, self)

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def status(self) -> int | None:
        """The exit status: None while the process runs, negative if a signal killed it."""
        return self._process.poll()

    @property
    def last_line(self) -> str:
        """The last non-empty line of the process's output."""
        return next((line for line in reversed(self._last_lines) if line), "no output")

    @property
    def is_ready(self) -> bool:
        return self.status is None and self.spec.ready(self)

    def read_output(self) -> None:
        """Log the output that the process has written so far. Never blocks."""
        while chunk := self._read():
            *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            if len(self._unfinished) > _LINE_LIMIT_BYTES:
                self._log(self._unfinished)
                self._unfinished = b""

    def terminate(self) -> None:
        """Send SIGTERM to the process; the process then ends its own children."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and all members of its session."""
        send(session_members(self.recorded), signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the remaining processes of the child's session, and log the last lines."""
        self.kill()
        self.read_output()
        if self._unfinished:
            self._log(self._unfinished)
        self._close_pipe()

    def _read(self) -> bytes:
        if self._pipe.closed:
            return b""
        chunk = self._pipe.read(_READ_BYTES)
        if chunk == b"":  # the process closed its output; the selector would never wait again
            self._close_pipe()
        return chunk or b""

    def _close_pipe(self) -> None:
        if not self._pipe.closed:
            self._selector.unregister(self._pipe)
            self._pipe.close()

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self._last_lines.append(printable(text))
        self._output.line(self.spec.name, text)


class HttpReady:
    """A readiness test that passes when a GET of `path` returns 200.

    The request goes to the socket that the process has inherited, so no other program can answer.
    Each request runs in a thread, because the first response of a web server may take seconds.
    """

    def __init__(self, listener: socket.socket, path: str) -> None:
        self._host, self._port = listener.getsockname()
        self._path = path
        self._probe: threading.Thread | None = None
        self._ready_child: Child | None = None

    def __call__(self, child: Child) -> bool:
        if self._ready_child is child:
            return True
        if self._probe is None or not self._probe.is_alive():
            self._probe = threading.Thread(target=self._request, args=[child], daemon=True)
            self._probe.start()
        return False

    def _request(self, child: Child) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", self._path)
            if connection.getresponse().status == 200:
                self._ready_child = child
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


def alive_for(seconds: float) -> Ready:
    """A readiness test that passes when the process has run for `seconds`."""
    return lambda child: child.age_seconds >= seconds


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
