"""A Valkey server. Streams and broker use an append-only file; a cache node writes no file."""

import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from .files import write_atomically
from .ports import LOOPBACK
from .server import Server

_ANSWER_SECONDS = 1.0
# Valkey rewrites the append-only file when it has this size. A rewrite forks, which slows the
# server, and the file doesn't get smaller before retention trims streams. With the default, Valkey
# would rewrite at 64mb, and again each time that the size has doubled.
_REWRITTEN_FROM = "1gb"


class Valkey(Server):
    """One Valkey server with its files in `<home of root>/<name>`.

    With `append_only`, a write is on disk within a second of the reply; the server evicts no key.
    Without it, the server writes no file and evicts least recently used keys at `max_memory_mb`.
    """

    program: ClassVar[str] = "valkey-server"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        append_only: bool,
        password: str | None = None,
        users: Callable[[], Sequence[str]] = tuple,
        max_memory_mb: int = 64,
    ) -> None:
        """`password` is the administrator's. `users` returns the lines of further users for the
        configuration file (stack.users)."""
        super().__init__(root, name)
        self.append_only = append_only
        self.password = password
        self.users = users
        self.max_memory_mb = max_memory_mb

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def url(self) -> str:
        """redis://:password@127.0.0.1:port/0, for the administrator."""
        return self.url_of("", self.password or "")

    def url_of(self, user: str, password: str, *, database: int = 0) -> str:
        login = f"{user}:{password}@" if password else ""
        return f"redis://{login}{LOOPBACK}:{self.port}/{database}"

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True, mode=0o700)
        self.user.chown(self.data)

    def _configure(self, port: int) -> list[str]:
        # The password is in a file, because every user can read the arguments of a process.
        file = self.directory / "valkey.conf"
        write_atomically(file, "\n".join(self._settings(port)) + "\n")
        self.user.chown(file)
        return [str(self.binaries.valkey), str(file)]

    def _settings(self, port: int) -> list[str]:
        lines = [
            f"bind {LOOPBACK}",
            f"port {port}",
            f'dir "{self.data}"',
            "daemonize no",
            'save ""',
            "repl-diskless-sync-delay 0",
        ]
        if self.password:
            lines += [f"requirepass {self.password}", *self.users()]
        if self.append_only:
            return [
                *lines,
                "appendonly yes",
                "appendfsync everysec",
                f"auto-aof-rewrite-min-size {_REWRITTEN_FROM}",
                "maxmemory-policy noeviction",
            ]
        return [*lines, f"maxmemory {self.max_memory_mb}mb", "maxmemory-policy allkeys-lru"]

    def _is_serving(self, pid: int, port: int) -> bool:
        # Sends INFO, not PING: another server on the port would reply to PING too.
        try:
            info = self._info(port)
        except OSError:
            return False
        return info.get("process_id") == str(pid) and info.get("loading") == "0"

    def flush(self) -> None:
        """Delete all keys."""
        self.command("FLUSHALL")

    def _info(self, port: int) -> dict[str, str]:
        text = self.command("INFO server persistence", port=port)
        pairs = (line.partition(":") for line in text.splitlines())
        return {key: value for key, _, value in pairs}

    def command(self, text: str, *, port: int | None = None) -> str:
        """Send one inline command and return the reply as RESP, without a client library."""
        address = (LOOPBACK, port or self.port)
        with socket.create_connection(address, timeout=_ANSWER_SECONDS) as connection:
            login = f"AUTH {self.password}\r\n" if self.password else ""
            connection.sendall(f"{login}{text}\r\nQUIT\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
