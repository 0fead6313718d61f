"""A primary and its standby, with the faults that a test can cause."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.test import override_settings

from placement.homes import primary
from placement.replicas.watch import watch
from stack import processes
from stack.servers import Postgres, Standby
from tests.support import databases
from tests.support.freezing import frozen
from tests.support.waiting import eventually

LAG_SECONDS = 15.0  # a busy machine may delay the replay; a test of the limit sets a shorter one
WITHIN_SECONDS = 15.0


class Replicated:
    """In this process, service aliases point to `primary` and replica aliases to `standby`."""

    def __init__(self, primary: Postgres, standby: Standby, *, database: str) -> None:
        self.primary = primary
        self.standby = standby
        self.database = database

    def pause(self) -> None:
        self.catch_up()
        self.standby.query("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        eventually(
            lambda: self.standby.query(state) == [("paused",)],
            within_seconds=WITHIN_SECONDS,
            what="paused replay",
        )

    def resume(self) -> None:
        self.standby.query("SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")

    def catch_up(self, standby: Standby | None = None) -> None:
        """Wait until the standby (the first by default) has replayed the primary's flushed WAL."""
        ((flushed,),) = self.primary.query("SELECT pg_current_wal_flush_lsn()::text")
        eventually(
            lambda: (standby or self.standby).query(
                "SELECT pg_last_wal_replay_lsn() >= %s", flushed
            )[0][0],
            within_seconds=WITHIN_SECONDS,
            what="a standby that has caught up",
        )

    def in_use(self, service: str = "accounts") -> None:
        """Wait until the watch lets the service read from its replica."""
        self.wait_until(why="", service=service)

    def wait_until(self, *, why: str, service: str = "accounts") -> None:
        """Wait until the replica is out of use for this reason, or is in use if `why` is empty."""
        eventually(
            lambda: (
                self.replica(service).healthy is not bool(why) and why in self.replica(service).why
            ),
            within_seconds=WITHIN_SECONDS,
            what=f"replica with why={why!r}: {self.replica(service)}",
        )

    def replica(self, service: str = "accounts") -> Any:
        group = watch.group(service)
        assert group is not None
        return group.replicas[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the standby's processes within the block; its sockets stay open."""
        stopped = processes.working_in(self.standby.data, executable=self.standby.program)
        assert len(stopped) > 1, "each connection has its own process"
        with frozen(stopped):
            yield

    def recreate(self) -> None:
        """Make a promoted standby follow the primary again, from a new base backup."""
        self.primary.start()
        self.standby.stop()
        # Without this file the start takes a base backup, as after an interrupted first start.
        self.standby._complete.unlink()
        self.standby.start()
        self.catch_up()

    @contextmanager
    def connected(self, password: str, *others: Standby) -> Iterator[None]:
        """Within the block, Django uses these servers and the other standbys."""
        standbys = (self.standby, *others)
        replicas = {
            service: tuple(f"{primary(service)}-replica-{n}" for n in range(len(standbys)))
            for service in services()
        }
        settings = override_settings(
            PLACEMENT_REPLICAS=replicas, PLACEMENT_REPLICA_LAG_SECONDS=LAG_SECONDS
        )
        with databases.connections_kept(), settings:
            databases.point_connections_at(self.primary.dsn, name=self.database, password=password)
            for service, aliases in replicas.items():
                for alias, standby in zip(aliases, standbys, strict=True):
                    connections.settings[alias] = self._settings(primary(service), standby)
            try:
                yield
            finally:
                watch.stop()
                databases.close_connections()
                for alias in (alias for aliases in replicas.values() for alias in aliases):
                    del connections[alias], connections.settings[alias]

    def _settings(self, home: str, standby: Standby) -> dict[str, Any]:
        settings = copy.deepcopy(connections.settings[home])
        settings |= {"PORT": str(standby.port), "CONN_HEALTH_CHECKS": False}
        settings["OPTIONS"]["options"] += " -c default_transaction_read_only=on"
        return settings


def services() -> tuple[str, ...]:
    from django.conf import settings

    return tuple(settings.APPLICATIONS)
