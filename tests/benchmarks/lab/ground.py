"""The private servers and processes of the lab: two standbys, the ring, and the lab's own services.

One standby replays at once; the replay of the other is delayed, so that a short lag is certain.
"""

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from placement.provision import dsn_for
from stack.environment import DATABASE, for_process
from stack.postgres import HOST, Standby
from stack.shapes import LAB
from tests.benchmarks.clock import wait_until
from tests.benchmarks.ground import SHAPE, Ground
from tests.benchmarks.lab.cost import STATEMENTS, Work, cpu_seconds
from tests.benchmarks.lab.group import Group

DELAY_MS: Final = 50
NODES: Final = 3
READY_SECONDS: Final = 60.0
PROCESSES: Final = {
    "relay": ("manage.py", "outbox", "relay", "lab"),
    "consumer": ("manage.py", "outbox", "consume"),
}


class Delayed(Standby):
    """A standby that replays each commit DELAY_MS after its time on the primary."""

    def _settings(self, port: int) -> dict[str, str | int]:
        return {**super()._settings(port), "recovery_min_apply_delay": f"{DELAY_MS}ms"}


class LabGround(Ground):
    """The servers of a run, and the processes that publish and apply the lab's events."""

    has_lab = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.delayed = Delayed(self.servers.postgres, "postgres-delayed", slot="delayed")
        self._groups: dict[str, Group] = {}
        self._running: dict[str, subprocess.Popen[Any]] = {}

    def start(self) -> None:
        self.delayed.stop()  # of an interrupted run
        super().start()
        self.restart_postgres(shared_preload_libraries="pg_stat_statements")
        self.servers.start(standby=True, ring=NODES + 1)
        self.need_application()
        self.query("CREATE EXTENSION pg_stat_statements", dsn=self.application_dsn)
        self.delayed.start()
        self.spawn_lab()

    def stop(self, *, keep_logs: bool) -> None:
        self.end_processes()
        self.delayed.stop()
        super().stop(keep_logs=keep_logs)

    # -- environments ----------------------------------------------------------------------

    def environment(self, *, standby: str = "", nodes: int = NODES) -> dict[str, str]:
        """The environment of a process of the lab. `standby` is plain, delayed or empty."""
        ports = {
            "plain": self.servers.standby.port if self.servers.standby else 0,
            "delayed": self.delayed.port,
        }
        replicas = self._lab_dsn(ports[standby]) if standby else ""
        return {
            **for_process(self.variables(SHAPE[0]), kind="bench"),
            "CACHE_URLS": ",".join(self.servers.addresses.ring_urls[:nodes]),
            "ACCOUNTS_REPLICA_URLS": "",
            "LAB_REPLICA_URLS": replicas,
        }

    def _lab_dsn(self, port: int) -> str:
        return dsn_for(
            f"host={HOST} port={port}",
            database=DATABASE,
            role="lab",
            password=self.stack.credentials.role_password("lab"),
        )

    # -- processes -------------------------------------------------------------------------

    def clients(self, *, standby: str = "plain", nodes: int = NODES) -> Group:
        """The client processes with this environment. They are started once, because a start
        takes longer than most measurements."""
        name = f"clients-{standby}-{nodes}"
        if name not in self._groups:
            environment = self.environment(standby=standby, nodes=nodes)
            self._groups[name] = Group(self, name, environment)
        return self._groups[name]

    def spawn_lab(self, names: Collection[str] = tuple(PROCESSES)) -> None:
        """Starts the processes that publish and apply the lab's events."""
        for name in names:
            self._running[name] = self.spawn(name, self.environment(), *PROCESSES[name])

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        self.end(process)

    # -- the primary -----------------------------------------------------------------------

    def work(self) -> Work:
        """The work of the primary until now, for all roles of the lab."""
        [(statements,)] = self.query(STATEMENTS, list(LAB), dsn=self.application_dsn)
        return Work(cpu_seconds=cpu_seconds(self.servers.postgres.pid), statements=int(statements))

    def wait_replayed(self) -> None:
        """Returns when both standbys have replayed everything that the primary has flushed."""
        lsn = self.query("SELECT pg_current_wal_flush_lsn()")[0][0]
        replayed = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= %s"
        wait_until(
            lambda: self.query(replayed, lsn)[0][0] >= 2,
            look_every_seconds=0.05,
            within_seconds=READY_SECONDS,
            what="both standbys have replayed",
        )

    def cache_bytes(self) -> int:
        """The memory of all nodes of the ring."""
        found = 0
        for node in self.servers.ring:
            lines = node.command("INFO memory").splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            found += int(fields["used_memory"])
        return found
