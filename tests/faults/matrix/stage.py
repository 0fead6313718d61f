"""The servers that all cells share, and a new database for each cell."""

import fcntl
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import redis

from stack.postgres import Postgres
from stack.valkey import Valkey
from tests.faults.matrix import child
from tests.faults.matrix.proxy import Proxy
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

ROOT = CHECKOUT / ".local" / "faults"
TEMPLATE = "shop"
PASSWORD = "faults"
# Small stream nodes, since XTRIM drops only whole nodes.
NODE_ENTRIES = 4
FLUSH_MS = 20_000
LONGEST_TAIL = 0.3  # the largest share of the append-only file that is cut off


class Stage:
    """PostgreSQL, Valkey, and the proxy in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder)
        self.valkey = Valkey(folder, "streams", append_only=True, password=PASSWORD)
        self.database = ""
        self._line: Any = None

    def start(self) -> None:
        self.postgres.start()
        # Without fsync, a killed server loses no data, since the machine keeps running.
        self.postgres.query("ALTER SYSTEM SET fsync = off")
        self.postgres.query("SELECT pg_reload_conf()")
        self.valkey.start()
        self.redis = redis.Redis.from_url(self.valkey.url)
        self.proxy = Proxy(lambda: self.valkey.port)
        for (name,) in self.postgres.query(
            "SELECT datname FROM pg_database WHERE datname ~ '^(shop|cell)'"
        ):
            self._drop(name)
        self._create(TEMPLATE, "")
        self.migrate()

    def stop(self) -> None:
        self.proxy.close()
        self.redis.close()
        self.valkey.stop()
        self.postgres.stop()

    def migrate(self) -> None:
        self.database = TEMPLATE
        log = self.folder / "migrate.log"
        log.unlink(missing_ok=True)
        process = child.start(
            child.Order(
                command=("migrate", "--run-syncdb", "--verbosity", "0"),
                environment=self.environment,
                log=log,
                gate_port=0,
            )
        )
        process.join(60)
        assert process.exitcode == 0, log.read_text()

    @property
    def environment(self) -> dict[str, str]:
        server = self.postgres.dsn.rpartition("/")[0]
        return {
            "DJANGO_SETTINGS_MODULE": "tests.support.stranger.settings",
            "PYTHONWARNINGS": "ignore",
            "STRANGER_DATABASE_URL": f"{server}/{self.database}",
            "STRANGER_STREAMS_URL": f"redis://:{PASSWORD}@127.0.0.1:{self.proxy.port}/0",
        }

    @property
    def dsn(self) -> str:
        return self.environment["STRANGER_DATABASE_URL"]

    @contextmanager
    def fresh(self, name: str) -> Iterator[None]:
        """Provides an empty database and an empty stream server."""
        self._empty_streams()
        self.redis.config_set("stream-node-max-entries", NODE_ENTRIES)
        self._log_start = self._log_file.stat().st_size  # the earlier bytes belong to other cells
        self._create(name, f"TEMPLATE {TEMPLATE}")
        self.database = name
        try:
            yield
        finally:
            self._disconnect()
            self._drop(name)

    def _empty_streams(self) -> None:
        # While a sync of its file is slow, the server replies up to two seconds before it writes
        # to the file. A kill would then restore the events of the cell before.
        with self.redis.client() as line:
            line.flushall()
            on_disk, _ = line.execute_command("WAITAOF", 1, 0, FLUSH_MS)
        if not on_disk:
            raise TimeoutError(f"the stream server hasn't synced its file within {FLUSH_MS} ms")

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement. Reconnects once if a fault has closed the connection."""
        try:
            return self._execute(statement)
        except psycopg2.Error:  # a closed socket may raise any of these errors
            self._disconnect()
            return self._execute(statement)

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        if self._line is None:
            self._line = psycopg2.connect(self.dsn, connect_timeout=5)
            self._line.autocommit = True
        with self._line.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _disconnect(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    # Faults of the servers.

    def stop_postgres_at_once(self) -> None:
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        eventually(lambda: self.postgres.pid is None, within_seconds=20, what="PostgreSQL ends")
        self.postgres.start()

    def terminate_backends(self) -> None:
        self.postgres.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            self.database,
        )

    def lose_streams_tail(self, chance: random.Random) -> None:
        """Removes the last writes from the stream server, as after a power failure."""
        self.valkey.kill()
        size = self._log_file.stat().st_size
        lost = chance.randint(1, max(1, int((size - self._log_start) * LONGEST_TAIL)))
        os.truncate(self._log_file, size - lost)
        self.valkey.start()

    @property
    def _log_file(self) -> Path:
        return max(self.valkey.data.glob("appendonlydir/*.incr.aof"))

    def _create(self, name: str, how: str) -> None:
        self.postgres.query(f"CREATE DATABASE {name} {how}")

    def _drop(self, name: str) -> None:
        self.postgres.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Provides a stage that no other run uses. Reuses the servers that a crashed run left."""
    for number in range(8):
        folder = ROOT / f"slot-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            stage = Stage(folder)
            try:
                stage.start()
                yield stage
            finally:
                stage.stop()
            return
    raise RuntimeError(f"too many runs use {ROOT}; wait until a run ends")
