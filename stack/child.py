"""One process of the application: started, listened to, ended."""

import ctypes
import http.client
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from .processes import Recorded, send, session_members
from .terminal import Output

_READ_BYTES = 65_536
_LINE_LIMIT_BYTES = 100_000
_PROBE_SECONDS = 10.0
_LAST_LINES = 20
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

Ready = Callable[["Child"], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to run, and when it counts as ready."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    ready: Ready
    stops_in_wave: int = 1  # lower waves are stopped, and waited for, first


class Child:
    """A running (or ended) process. Its lines, stdout and stderr alike, go to the log.

    It opens a session of its own, so that the terminal's Ctrl-C reaches the supervisor alone, and
    dies at once when the supervisor is killed (Linux). Spawn it from the main thread: the kernel
    counts the death of the spawning *thread*.
    """

    def __init__(
        self, spec: ProcessSpec, *, output: Output, selector: selectors.BaseSelector
    ) -> None:
        self.spec = spec
        self.started_at = time.monotonic()
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._output = output
        self._selector = selector
        self._rest = b""
        self._process = self._spawned()
        self._pipe = cast(IO[bytes], self._process.stdout)
        self.pid = self._process.pid
        self.recorded = Recorded.of(self.pid)
        os.set_blocking(self._pipe.fileno(), False)
        self._selector.register(self._pipe, selectors.EVENT_READ, self)

    def _spawned(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.spec.command,
            cwd=self.spec.directory,
            env=dict(self.spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            # One system call; it needs nothing that another thread (a server's start) may hold.
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def status(self) -> int | None:
        """As of `subprocess`: None while it runs, negative for a signal."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last line it wrote that isn't empty."""
        return next((line for line in reversed(self.last_lines) if line), "it said nothing")

    @property
    def is_ready(self) -> bool:
        return self.status is None and self.spec.ready(self)

    def pump(self) -> None:
        """Pass on what it has written so far."""
        while chunk := self._read():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._say(line)
            if len(self._rest) > _LINE_LIMIT_BYTES:
                self._say(self._rest)
                self._rest = b""

    def terminate(self) -> None:
        """Ask the process itself to end; it ends its own children."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it has started, at once."""
        left = session_members(self.recorded)
        send(left, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """After its end: the last lines, and nothing of its session left behind."""
        self.kill()
        self.pump()
        if self._rest:
            self._say(self._rest)
        if not self._pipe.closed:
            self._selector.unregister(self._pipe)
            self._pipe.close()

    def _read(self) -> bytes:
        try:
            return self._pipe.read(_READ_BYTES) or b""
        except ValueError:  # closed
            return b""

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self.last_lines.append(text)
        self._output.line(self.spec.name, text)


class Answers:
    """Ready when a GET of this URL gives 200.

    Asked in a thread, one question at a time: the first answer of a web server may take seconds.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._asking: threading.Thread | None = None
        self._answered_by: Child | None = None

    def __call__(self, child: Child) -> bool:
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, args=[child], daemon=True)
            self._asking.start()
        return self._answered_by is child

    def _ask(self, child: Child) -> None:
        connection = http.client.HTTPConnection(self._parts.netloc, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", self._parts.path)
            if connection.getresponse().status == 200:
                self._answered_by = child
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


def stays(seconds: float) -> Ready:
    """Ready when it has lived that long."""
    return lambda child: child.age_seconds >= seconds


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
