"""Runs PostgreSQL: a primary and a hot standby."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import psycopg2

from .errors import ServerFailed
from .files import kept_secret, write_atomically
from .ports import LOOPBACK
from .server import Server

_ADMIN = "postgres"
_REPLICATOR = "replicator"
_CONNECT_SECONDS = 5
_SLOT_SECONDS = 20.0  # for the primary to notice that its slot isn't used any more
_POLL_SECONDS = 0.05
# A message over loopback TCP takes a third longer than over a Unix socket. Linux has abstract
# sockets, which need no file; the path of a socket file would often be too long. The port is part
# of the socket's name, so servers of several roots don't collide. psycopg 3 reads such a name as
# that of a host.
_SOCKET: Final = "@mitosis" if sys.platform == "linux" else ""
HOST: Final = _SOCKET if _SOCKET and find_spec("psycopg") is None else LOOPBACK
_VERSION = "18"  # part of the data folder's name, because another major version can't read the data


class Postgres(Server):
    """A primary in `<home of root>/<name>`: local connections only, scram passwords, fsync on."""

    program: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # SIGTERM waits for clients to disconnect

    def __init__(self, root: Path, name: str = "postgres") -> None:
        super().__init__(root, name)

    @property
    def data(self) -> Path:
        return self.directory / f"pg{_VERSION}"

    @property
    def dsn(self) -> str:
        """The DSN of the superuser, for the database `postgres`."""
        return f"postgresql://{_ADMIN}:{self.password}@{quote(HOST)}:{self.port}/postgres"

    @property
    def password(self) -> str:
        """The superuser's password; empty before the first start."""
        file = self.directory / "password"
        return file.read_text().strip() if file.exists() else ""

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, in autocommit; return its rows."""
        with closing(psycopg2.connect(self.dsn, connect_timeout=_CONNECT_SECONDS)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []

    @property
    def _complete(self) -> Path:
        """Marks the data folder as complete. A base backup would copy a file in that folder."""
        return self.directory / f"pg{_VERSION}.complete"

    def _prepare(self) -> None:
        if self._complete.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # of an interrupted first start
        self._create()
        self._complete.touch()

    def _create(self) -> None:
        password = self.directory / "password"
        kept_secret(password)
        self.user.chown(password)
        self._run(
            "initdb",
            *("-D", str(self.data), "-U", _ADMIN, "--pwfile", str(password)),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync"),
        )

    def _configure(self, port: int) -> list[str]:
        main = self.data / "postgresql.conf"
        include = "include = 'embedded.conf'"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(f"\n{include}\n")
        lines = [f"{key} = '{value}'" for key, value in self._settings(port).items()]
        conf = self.data / "embedded.conf"
        write_atomically(conf, "\n".join(lines) + "\n")
        self.user.chown(conf)
        return [str(self.binaries.postgres / "postgres"), "-D", str(self.data)]

    def _settings(self, port: int) -> dict[str, str | int]:
        return {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": _SOCKET,
            "max_connections": 400,  # see placement.provision.CONNECTIONS
            "shared_buffers": "128MB",
            # A statement that finds only dirty buffers must write a buffer, after a WAL flush. A
            # background writer that writes often keeps clean buffers available.
            "bgwriter_delay": "20ms",
            "bgwriter_lru_maxpages": 400,
            "bgwriter_lru_multiplier": 4,
            "wal_buffers": "16MB",  # statements continue during a WAL flush
            # A larger limit means fewer checkpoints. After a checkpoint, the first change of a page
            # logs the whole page, and the WAL soon reaches the default limit of 1 GB.
            "max_wal_size": "4GB",
            "wal_level": "replica",
            "max_wal_senders": 10,
            "max_replication_slots": 10,
            # WAL for a stopped standby must not fill the disk. `start` can copy the primary again.
            "max_slot_wal_keep_size": "1GB",
            "wal_retrieve_retry_interval": "500ms",
            "hot_standby": "on",
            "log_checkpoints": "off",
            # Log neither row values nor statements: they contain personal data.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }

    def _is_serving(self, pid: int, port: int) -> bool:
        # Lines of postmaster.pid (PostgreSQL's miscadmin.h): 1 pid, 4 port, 8 state.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) >= 8
            and lines[0] == str(pid)
            and lines[3] == str(port)
            and lines[7].strip() in {"ready", "standby"}
        )

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        """Run one of PostgreSQL's tools as the servers' user. Raises ServerFailed."""
        user = self.user
        done = subprocess.run(
            [self.binaries.postgres / program, *arguments],
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **user.popen_arguments(),
        )
        if done.returncode:
            with self.log.open("ab") as log:
                offset = log.tell()
                log.write(done.stdout)
            raise ServerFailed(self.name, f"{program}: {self._reason(offset)}", self.log)


class Standby(Postgres):
    """A hot standby of `primary`, which must be running when the standby is started.

    It streams through a physical slot. `start` copies the primary again if the standby can no
    longer follow, because its slot is lost or the primary is another cluster.
    """

    def __init__(
        self, primary: Postgres, name: str = "postgres-replica", *, slot: str = "standby"
    ) -> None:
        """Standbys of one primary need different names and slots."""
        super().__init__(primary.root, name)
        self.primary = primary
        self.slot = slot

    @property
    def password(self) -> str:
        return self.primary.password

    def _prepare(self) -> None:
        if self._complete.exists() and not self._can_follow():
            self._complete.unlink()
        super()._prepare()

    def _can_follow(self) -> bool:
        slots = self.primary.query(
            "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND wal_status <> 'lost'",
            self.slot,
        )
        return bool(slots) and self._origin() == (self.directory / "origin").read_text()

    def _origin(self) -> str:
        return str(self.primary.query("SELECT system_identifier FROM pg_control_system()")[0][0])

    def _create(self) -> None:
        self._make_slot()
        self._run(
            "pg_basebackup",
            *("-D", str(self.data), "-h", HOST, "-p", str(self.primary.port)),
            *("-U", _REPLICATOR, "--slot", self.slot, "-X", "stream", "-c", "fast", "--no-sync"),
            PGPASSWORD=self._replicator_password,
        )
        write_atomically(self.directory / "origin", self._origin())
        # The option -R would also write the current port, to a file that overrides embedded.conf.
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        self.user.chown(signal_file)

    @property
    def _replicator_password(self) -> str:
        return kept_secret(self.primary.directory / "replicator-password")

    def _make_slot(self) -> None:
        query = self.primary.query
        exists = query("SELECT 1 FROM pg_roles WHERE rolname = %s", _REPLICATOR)
        verb = "ALTER" if exists else "CREATE"
        query(f"{verb} ROLE {_REPLICATOR} LOGIN REPLICATION PASSWORD %s", self._replicator_password)
        # The primary uses the slot until it notices that the standby, or a base backup, has ended.
        in_use = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
        deadline = time.monotonic() + _SLOT_SECONDS
        while query(in_use, self.slot) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        query(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND NOT active",
            self.slot,
        )
        query("SELECT pg_create_physical_replication_slot(%s, true)", self.slot)

    def _settings(self, port: int) -> dict[str, str | int]:
        conninfo = (
            f"host={HOST} port={self.primary.port} user={_REPLICATOR}"
            f" password={self._replicator_password} application_name={self.name}"
        )
        return {
            **super()._settings(port),
            "primary_conninfo": conninfo,
            "primary_slot_name": self.slot,
        }
