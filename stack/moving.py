"""Moves the schema of a service to another PostgreSQL server, by dump and restore.

The service's processes must be stopped. The file `databases.json` names the services whose schema
is on their own server. It changes only when the copy is complete, so after a crash the next start
copies again from the server that the file names. Before the change, nothing uses the copy. The file
exists before the first start of a service's own server: if such a server was started and the file
is missing, it was deleted, or an earlier release was interrupted during its first such start.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
from psycopg2.sql import SQL, Identifier

from placement.provision import dsn_for

from .environment import DATABASE
from .errors import StackError
from .files import write_atomically
from .owner import has_home
from .postgres import HOST, Postgres
from .servers import OwnServer
from .shapes import SERVICES

_FILE: Final = "databases.json"
_HINT: Final = (
    "this file names the services whose data is on their own server; write"
    ' {"own": ["orders"]} to it if the last start that became ready was'
    ' ./dev up --services --own-servers, else {"own": []}'
)


def on_own_server(root: Path) -> tuple[str, ...]:
    """The services whose schema is on their own server, also while the stack is down.

    Raises StackError for a damaged or deleted file. A start without it would show an old or empty
    schema, and the next move would replace the real one by this schema.
    """
    file = root / _FILE
    if not file.exists():
        if started := [name for name in SERVICES if _was_started(root, name)]:
            names = " and ".join(f"postgres-{name}" for name in started)
            raise StackError(f"{file} is missing, but {names} was started before: {_HINT}")
        return ()
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    match found:
        case {"own": [*own]} if all(name in SERVICES for name in own):
            return tuple(own)
    raise StackError(f"{file} is damaged: {_HINT}")


def _was_started(root: Path, service: str) -> bool:
    return has_home(root) and OwnServer.of(root, service).primary.port > 0


def record(root: Path, services: Iterable[str]) -> None:
    text = json.dumps({"own": sorted(services)})
    write_atomically(root / _FILE, f"{text}\n", durable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    service: str
    source: Postgres
    target: Postgres

    def __str__(self) -> str:
        return f"{self.service} from {self.source.name} to {self.target.name}"

    @property
    def has_data(self) -> bool:
        """Whether the source has the schema. It has none before the first start."""
        exists = "SELECT 1 FROM pg_database WHERE datname = %s"
        if not self.source.query(exists, DATABASE):
            return False
        return self._execute(self.source, "SELECT 1 FROM pg_namespace WHERE nspname = %s") == 1

    def copy(self, folder: Path) -> int:
        """Replace the schema on the target; returns the size of the dump in bytes. The target must
        have the database and the role. Raises StackError."""
        dump = folder / f"{self.service}.dump"
        dump.touch(mode=0o600)  # it contains personal data
        try:
            _run(self.source, "pg_dump", "--format=custom", f"--schema={self.service}", file=dump)
            self._drop(self.target)
            options = ("--exit-on-error", "--single-transaction", f"--dbname={DATABASE}")
            _run(self.target, "pg_restore", *options, file=dump)
            return dump.stat().st_size
        finally:
            dump.unlink()

    def finish(self) -> None:
        """Delete the schema from the source, so that no process reads old data."""
        self._drop(self.source)

    def _drop(self, server: Postgres) -> None:
        self._execute(server, "DROP SCHEMA IF EXISTS {} CASCADE")

    def _execute(self, server: Postgres, statement: str) -> int:
        """Run the statement as superuser. {} stands for the schema, %s for its name."""
        text = SQL(statement).format(Identifier(self.service))
        dsn = dsn_for(server.dsn, database=DATABASE)
        with closing(psycopg2.connect(dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(text, [self.service] if "%s" in statement else None)
                return int(cursor.rowcount)


def _run(server: Postgres, program: str, *options: str, file: Path) -> None:
    """Run one of PostgreSQL's tools as superuser; it writes or reads `file`. Raises StackError."""
    reads = program == "pg_restore"
    done = subprocess.run(
        [server.binaries.postgres / program, *options, *([file] if reads else [f"--file={file}"])],
        env={
            "PATH": os.defpath,
            "LC_ALL": "C",
            "PGHOST": HOST,
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PGPASSWORD": server.password,
            "PGDATABASE": DATABASE,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(done.stdout.split()) or f"status {done.returncode}"
        raise StackError(f"{program} failed on {server.name}: {reason}")
