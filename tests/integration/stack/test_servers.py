"""The embedded servers: kills, restarts, changed ports and orphans of a dead supervisor."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from stack import owner, processes
from stack.environment import CHECKOUT
from stack.ports import LOOPBACK
from stack.postgres import HOST
from stack.servers import Postgres, Servers, StackError, StackInUse, Standby, Valkey
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@contextmanager
def running(root: Path, **which: int) -> Iterator[Servers]:
    servers = Servers(root)
    servers.start(**{"standby": False, "ring": 0, **which})
    try:
        yield servers
    finally:
        servers.stop()


def pids(servers: Servers) -> list[int]:
    return [server.pid for server in servers.all() if server.pid]


def remember(servers: Servers) -> None:
    servers.postgres.query("CREATE TABLE kept (n int)")
    servers.postgres.query("INSERT INTO kept VALUES (42)")
    servers.streams.command("SET kept 42")


def assert_remembered(servers: Servers) -> None:
    assert servers.postgres.query("SELECT n FROM kept") == [(42,)]
    assert "42" in servers.streams.command("GET kept")


def test_data_and_ports_survive_a_restart(root: Path) -> None:
    with running(root, ring=1) as servers:
        first = servers.addresses
        remember(servers)

    with running(root, ring=1) as servers:
        assert servers.addresses == first
        assert_remembered(servers)


def test_no_process_is_left_after_a_stop(root: Path) -> None:
    with running(root, standby=True, ring=2) as servers:
        were = pids(servers)
        folders = [(server.data, server.program) for server in servers.all()]

    assert len(were) == 5
    assert not [pid for pid in were if processes.identity(pid)]
    assert not [
        pid for data, program in folders for pid in processes.working_in(data, executable=program)
    ]


def test_acknowledged_writes_survive_a_kill_of_every_server(root: Path) -> None:
    with running(root) as servers:
        remember(servers)
        for server in servers.all():
            server.kill()

        for server in servers.all():
            server.start()

        assert_remembered(servers)


def test_a_postmaster_killed_with_a_busy_backend_starts_again(root: Path) -> None:
    with running(root) as servers:
        postgres = servers.postgres
        with closing(psycopg2.connect(postgres.dsn)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT pg_backend_pid()")
            (backend,) = cursor.fetchone() or (0,)

            def stay_busy() -> None:
                with suppress(psycopg2.Error):
                    cursor.execute("SELECT sum(n) FROM generate_series(1, 100000000000) n")

            busy = threading.Thread(target=stay_busy)
            busy.start()
            eventually(
                lambda: postgres.query(
                    "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'", backend
                ),
                within_seconds=60,
                what="a busy backend",
            )
            postgres.kill()

            postgres.start()
            busy.join()

        assert postgres.query("SELECT 1") == [(1,)]


def test_a_port_taken_by_another_process_is_replaced(root: Path) -> None:
    with running(root) as servers:
        before = servers.addresses
        remember(servers)
    with (
        socket.create_server((LOOPBACK, before.pg_port)),
        socket.create_server((LOOPBACK, servers.streams.port)),
        running(root) as servers,
    ):
        assert servers.addresses.pg_port != before.pg_port
        assert servers.addresses.streams_url != before.streams_url
        assert_remembered(servers)


def test_two_roots_run_side_by_side(root: Path) -> None:
    with running(root / "one") as one, running(root / "two") as two:
        remember(one)
        assert one.addresses.pg_port != two.addresses.pg_port
        assert two.postgres.query("SELECT to_regclass('kept')") == [(None,)]


def test_a_second_start_of_a_root_is_refused_and_names_the_first(root: Path) -> None:
    with running(root) as servers:
        before = pids(servers)

        with pytest.raises(StackInUse, match=f"^process {os.getpid()} is running the stack in"):
            Servers(root).start()

        assert pids(servers) == before


ABRUPT = """
import os, sys
from pathlib import Path
from stack.servers import Servers
servers = Servers(Path(sys.argv[1]))
servers.start(standby=False, ring=0)
servers.postgres.query("CREATE TABLE kept (n int)")
servers.postgres.query("INSERT INTO kept VALUES (42)")
servers.streams.command("SET kept 42")
print(*(server.pid for server in servers.all()), flush=True)
os._exit(1)
"""


def test_servers_of_a_dead_supervisor_are_stopped_and_started_again(root: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", ABRUPT, str(root)], capture_output=True, text=True, check=False
    ).stdout
    orphans = [int(pid) for pid in printed.split()]
    assert len(orphans) == 2
    assert all(processes.identity(pid) for pid in orphans)

    with running(root) as servers:
        assert not [pid for pid in orphans if processes.identity(pid)]
        assert_remembered(servers)


def test_a_pid_that_another_process_now_has_gets_no_signal(root: Path) -> None:
    server = Valkey(root, "streams", append_only=True)
    server.start()
    server.stop()
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        state = server.directory / "state.json"
        state.write_text(f'{{"pid": {other.pid}, "identity": "of an earlier process"}}')

        assert server.pid is None
        server.start()
        server.stop()

        assert other.poll() is None
        other.kill()


MEASURED_WITH = {  # for the retention figures; docker/servers.yml has the same settings
    "bgwriter_delay": "20ms",
    "bgwriter_lru_maxpages": "400",
    "bgwriter_lru_multiplier": "4",
    "wal_buffers": "16MB",
    "max_wal_size": "4GB",
}


def test_servers_run_with_the_documented_settings(root: Path) -> None:
    with running(root) as servers:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert servers.postgres.query(f"SHOW {setting}") == [("on",)]
        for setting, value in MEASURED_WITH.items():
            assert servers.postgres.query(f"SHOW {setting}") == [(value,)]
        assert "everysec" in servers.streams.command("CONFIG GET appendfsync")
        assert "noeviction" in servers.streams.command("CONFIG GET maxmemory-policy")
        # With a low minimum, the server would rewrite the growing file too often.
        assert str(2**30) in servers.streams.command("CONFIG GET auto-aof-rewrite-min-size")
    composed = (CHECKOUT / "docker" / "servers.yml").read_text()
    for setting, value in MEASURED_WITH.items():
        assert f"-c{setting}={value}" in composed


def test_servers_listen_on_the_loopback_address_and_require_a_password(root: Path) -> None:
    with running(root, ring=1) as servers:
        assert servers.postgres.query("SHOW listen_addresses") == [(LOOPBACK,)]
        for node in (servers.streams, *servers.ring):
            assert LOOPBACK in node.command("CONFIG GET bind")
            node.password = None
            assert "NOAUTH" in node.command("GET kept")
        wrong = servers.addresses.admin_dsn.replace(servers.postgres.password, "x")
        for host in {HOST, LOOPBACK}:
            with pytest.raises(psycopg2.OperationalError, match="password"):
                psycopg2.connect(wrong, host=host)


def replayed(standby: Standby) -> list[tuple[int]]:
    return standby.query("SELECT n FROM kept") if standby.query(_EXISTS) == [(True,)] else []


_EXISTS = "SELECT to_regclass('kept') IS NOT NULL"


def test_a_standby_follows_again_after_its_primary_was_killed(root: Path) -> None:
    with running(root, standby=True) as servers:
        assert servers.standby
        standby = servers.standby
        servers.postgres.kill()
        servers.postgres.start()

        servers.postgres.query("CREATE TABLE kept AS SELECT 42 AS n")

        eventually(lambda: replayed(standby) == [(42,)], within_seconds=60, what="the row")
        assert standby.query("SELECT pg_is_in_recovery()") == [(True,)]


def test_a_standby_without_its_slot_is_recreated(root: Path) -> None:
    with running(root, standby=True) as servers:
        assert servers.standby
        servers.standby.stop()
        drop = (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"
        )
        eventually(lambda: servers.postgres.query(drop), within_seconds=60, what="an inactive slot")
        servers.postgres.query("CREATE TABLE kept AS SELECT 42 AS n")

        servers.standby.start()

        standby = servers.standby
        eventually(lambda: replayed(standby) == [(42,)], within_seconds=60, what="the row")


def test_a_failed_start_shows_the_reason_that_the_server_logged(root: Path) -> None:
    postgres = Postgres(root)
    postgres.start()
    postgres.stop()
    with (postgres.data / "postgresql.conf").open("a") as conf:
        conf.write("shared_buffers = 'much'\n")

    with pytest.raises(StackError, match=r"^postgres did not start: .*postgresql\.conf") as failure:
        postgres.start()

    assert "\n" not in str(failure.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start servers as another user")
def test_root_may_use_a_checkout_in_a_private_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(owner, "SHARED_HOME", root / "shared")

    with running(closed / "stack") as servers:
        remember(servers)
        assert servers.postgres.data.is_relative_to(root / "shared")
        owner_of_data = servers.postgres.data.stat().st_uid
        assert owner_of_data != 0
    with running(closed / "stack") as servers:
        assert_remembered(servers)
