"""Real servers for tests. A server starts when a test first needs it and stops after all tests.

Test runs of one checkout may overlap: they share PostgreSQL, and each worker has its own Valkey.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stack.servers import Postgres, Standby, Valkey

# Servers that other runs still use. Without this list, Python would warn when it frees them.
_LEFT_RUNNING: list[Postgres] = []


@contextmanager
def shared_postgres(root: Path) -> Iterator[Postgres]:
    """The PostgreSQL server of this checkout; the last test run stops it."""
    server = Postgres(root)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "users.lock").open("a") as users:
        with _alone(root):
            fcntl.flock(users, fcntl.LOCK_SH)
            if server.pid is None:
                server.start()
                _prefer_speed(server)
        try:
            yield server
        finally:
            with _alone(root):
                if _is_last(users):
                    server.stop()
                else:
                    _LEFT_RUNNING.append(server)


def _prefer_speed(server: Postgres) -> None:
    # Test data need not survive a crash of the machine.
    for setting in ("fsync", "full_page_writes"):
        server.query(f"ALTER SYSTEM SET {setting} = off")
    server.query("SELECT pg_reload_conf()")


def _is_last(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def own_valkey(root: Path) -> Iterator[Valkey]:
    """This worker's own Valkey; `start_empty` also ends a Valkey that a crashed run left."""
    with free_slot(root) as slot:
        server = Valkey(slot, "streams", append_only=True, password="for-tests")
        try:
            start_empty(server)
            yield server
        finally:
            server.stop()


def start_empty(server: Valkey) -> None:
    """Start the server without the data of earlier runs, which it would load."""
    server.stop()
    shutil.rmtree(server.data, ignore_errors=True)
    server.start()


@contextmanager
def own_primary_and_standby(root: Path) -> Iterator[tuple[Postgres, Standby]]:
    """This worker's own primary and standby. A test may pause, kill and promote the standby."""
    with free_slot(root) as slot:
        primary = Postgres(slot)
        standby = Standby(primary)
        try:
            primary.start()
            _prefer_speed(primary)
            # An aborted run may have promoted the standby: copy the primary again.
            standby.stop()
            standby._complete.unlink(missing_ok=True)
            standby.start()
            yield primary, standby
        finally:
            standby.stop()
            primary.stop()


@contextmanager
def free_slot(root: Path) -> Iterator[Path]:
    for number in range(64):
        folder = root / f"slot-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a") as file:
            if _is_last(file):
                yield folder
                return
    raise RuntimeError("all 64 slots are in use: end other test runs first")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    with (root / "alone.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def own_ring(root: Path, *, nodes: int) -> Iterator[tuple[Valkey, list[Valkey]]]:
    """This worker's own store and cache ring nodes."""
    with free_slot(root / "ring") as slot:
        store = Valkey(slot, "streams", append_only=True, password="for-tests")
        ring = [
            Valkey(slot, f"ring-{number}", append_only=False, password="for-tests")
            for number in range(nodes)
        ]
        try:
            for server in (store, *ring):
                start_empty(server)
            yield store, ring
        finally:
            for server in (store, *ring):
                server.stop()
