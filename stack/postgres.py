"""PostgreSQL: a primary, and a hot standby that follows it."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import psycopg2

from .errors import ServerFailed
from .files import kept_secret, write_whole
from .ports import LOOPBACK
from .server import Server

_ADMIN = "postgres"
_REPLICATOR = "replicator"
_CONNECT_SECONDS = 5
# A message through the loopback's TCP costs two processes on one machine a third more than one
# through a socket of Unix. Of Linux it can be had without a file, whose path would be too long in
# many a checkout; servers of several roots differ by their ports.
HOST: Final = "@mitosis" if sys.platform == "linux" else LOOPBACK
_VERSION = "18"  # data folders bear the major version: another one can't read them


class Postgres(Server):
    """A primary in `<home of root>/<name>`: this machine only, scram passwords, fsync on."""

    program: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # SIGTERM would wait for the clients

    def __init__(self, root: Path, name: str = "postgres") -> None:
        super().__init__(root, name)

    @property
    def data(self) -> Path:
        return self.directory / f"pg{_VERSION}"

    @property
    def dsn(self) -> str:
        """The superuser's, on the database `postgres`."""
        return f"postgresql://{_ADMIN}:{self.password}@{quote(HOST)}:{self.port}/postgres"

    @property
    def password(self) -> str:
        """Empty before the first start."""
        file = self.directory / "password"
        return file.read_text().strip() if file.exists() else ""

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, in autocommit; its rows."""
        with closing(psycopg2.connect(self.dsn, connect_timeout=_CONNECT_SECONDS)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []

    @property
    def _complete(self) -> Path:
        """Beside the data folder, not in it: a base backup would copy it."""
        return self.directory / f"pg{_VERSION}.complete"

    def _prepare(self) -> None:
        if self._complete.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # half of an interrupted first start
        self._create()
        self._complete.touch()

    def _create(self) -> None:
        kept_secret(self.directory / "password")
        self._run(
            "initdb",
            *(
                "-D",
                str(self.data),
                "-U",
                _ADMIN,
                "--pwfile",
                self._readable_password(),
            ),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync"),
        )

    def _readable_password(self) -> str:
        return str(self.user.give(self.directory / "password"))

    def _configure(self, port: int) -> list[str]:
        main = self.data / "postgresql.conf"
        include = "include = 'embedded.conf'"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(f"\n{include}\n")
        lines = [f"{key} = '{value}'" for key, value in self._settings(port).items()]
        conf = self.data / "embedded.conf"
        write_whole(conf, "\n".join(lines) + "\n")
        self.user.give(conf)
        return [str(self.binaries.postgres / "postgres"), "-D", str(self.data)]

    def _settings(self, port: int) -> dict[str, str | int]:
        return {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": HOST if HOST != LOOPBACK else "",
            "max_connections": 200,
            "shared_buffers": "128MB",
            # A statement that needs a page and finds only dirty ones has to write one, and to wait
            # for the log's flush before: the background writer shall be there first.
            "bgwriter_delay": "20ms",
            "bgwriter_lru_maxpages": 400,
            "bgwriter_lru_multiplier": 4,
            "wal_buffers": "16MB",  # to go on while the log is flushed
            # The first change of a page after a checkpoint logs the whole page, and a gigabyte of
            # log, which would make a checkpoint, is soon written.
            "max_wal_size": "4GB",
            "wal_level": "replica",
            "max_wal_senders": 10,
            "max_replication_slots": 10,
            # A standby that stays away must not fill the disk; it is made anew instead.
            "max_slot_wal_keep_size": "1GB",
            "wal_retrieve_retry_interval": "500ms",
            "hot_standby": "on",
            "log_checkpoints": "off",
            # Neither values of rows nor statements: a refused registration would name somebody.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }

    def _answers(self, pid: int, port: int) -> bool:
        # Lines of postmaster.pid (miscadmin.h of PostgreSQL): 1 the pid, 4 the port, 8 the state.
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
                begins = log.tell()
                log.write(done.stdout)
            raise ServerFailed(self.name, f"{program}: {self._reason(begins)}", self.log)


class Standby(Postgres):
    """A hot standby of `primary`, which must run when this one is started.

    It streams through a physical slot. A standby that can't follow any more (its slot was given
    up, or its primary was made anew) is made again from a base backup.
    """

    def __init__(
        self, primary: Postgres, name: str = "postgres-replica", *, slot: str = "standby"
    ) -> None:
        """Standbys of one primary differ in name and slot."""
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
            *(
                "-U",
                _REPLICATOR,
                "--slot",
                self.slot,
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
            ),
            PGPASSWORD=self._replicator_password,
        )
        write_whole(self.directory / "origin", self._origin())
        # Not by pg_basebackup -R: it would write today's port where it beats ours.
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        self.user.give(signal_file)

    @property
    def _replicator_password(self) -> str:
        return kept_secret(self.primary.directory / "replicator-password")

    def _make_slot(self) -> None:
        ask = self.primary.query
        exists = ask("SELECT 1 FROM pg_roles WHERE rolname = %s", _REPLICATOR)
        verb = "ALTER" if exists else "CREATE"
        ask(
            f"{verb} ROLE {_REPLICATOR} LOGIN REPLICATION PASSWORD %s",
            self._replicator_password,
        )
        ask(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND NOT active",
            self.slot,
        )
        ask("SELECT pg_create_physical_replication_slot(%s, true)", self.slot)

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
