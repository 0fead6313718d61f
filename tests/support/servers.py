"""Real servers for tests, started when first needed and stopped when the last run ends.

Several runs may share a checkout at once: they share PostgreSQL; each worker has its own Valkey.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stack.servers import Postgres, Standby, Valkey

# Servers that we started and other runs still use. Kept, since collecting one as garbage warns.
_LEFT_RUNNING: list[Postgres] = []


@contextmanager
def shared_postgres(root: Path) -> Iterator[Postgres]:
    """The checkout's PostgreSQL; its last user stops it."""
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
    # Its data need not survive a crash of the machine.
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
    """This worker's own Valkey; one that a crashed run left is taken over."""
    with _free_slot(root) as slot:
        server = Valkey(slot, "streams", append_only=True, password="for-tests")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def own_primary_and_standby(root: Path) -> Iterator[tuple[Postgres, Standby]]:
    """This worker's own pair, whose standby may be paused, killed and promoted."""
    with _free_slot(root) as slot:
        primary = Postgres(slot)
        standby = Standby(primary)
        try:
            primary.start()
            _prefer_speed(primary)
            # An aborted run may have left it promoted: take another base backup.
            standby.stop()
            standby._complete.unlink(missing_ok=True)
            standby.start()
            yield primary, standby
        finally:
            standby.stop()
            primary.stop()


@contextmanager
def _free_slot(root: Path) -> Iterator[Path]:
    for number in range(64):
        folder = root / f"slot-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a") as file:
            if _is_last(file):
                yield folder
                return
    raise RuntimeError("no free slot: too many test runs at once")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    with (root / "alone.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def own_ring(root: Path, *, nodes: int) -> Iterator[tuple[Valkey, list[Valkey]]]:
    """This worker's own store and cache ring nodes."""
    with _free_slot(root / "ring") as slot:
        store = Valkey(slot, "streams", append_only=True, password="for-tests")
        ring = [
            Valkey(slot, f"ring-{number}", append_only=False, password="for-tests")
            for number in range(nodes)
        ]
        try:
            for server in (store, *ring):
                server.start()
            yield store, ring
        finally:
            for server in (store, *ring):
                server.stop()
