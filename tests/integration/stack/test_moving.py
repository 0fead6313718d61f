"""A service's schema moves between two PostgreSQL servers, also after an interrupted move."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from placement.provision import Passwords, dsn_for, owner_of, provision
from stack import moving
from stack.environment import DATABASE
from stack.errors import StackError
from stack.moving import Move
from stack.postgres import Postgres
from stack.report import known_stack
from stack.servers import Servers
from tests.integration.config.test_shapes import execute, rows

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
TABLE = "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)"


@pytest.fixture
def servers(root: Path) -> Iterator[Servers]:
    servers = Servers(root)
    servers.start(standby=False, ring=0, own=["orders"])
    for server in (servers.postgres, servers.own["orders"].primary):
        provision(server.dsn, database=DATABASE, services={"orders": Passwords.same("for-tests")})
    try:
        yield servers
    finally:
        servers.stop()


def address(server: Postgres) -> str:
    role = owner_of("orders")
    return dsn_for(server.dsn, database=DATABASE, role=role, password="for-tests")


def test_a_schema_moves_with_its_rows_and_rights(servers: Servers, root: Path) -> None:
    there = servers.own["orders"].primary
    execute(
        address(servers.postgres),
        f"{TABLE}; GRANT DELETE ON kept TO orders",  # the runtime role
    )
    move = Move(service="orders", source=servers.postgres, target=there)
    assert move.has_data
    for _ in range(2):  # the first copy may be of a move that was interrupted
        move.copy(root)
    assert rows(address(there), "SELECT n FROM kept") == [(42,)]
    for right, is_held in (("DELETE", True), ("UPDATE", False)):
        held = f"SELECT has_table_privilege('orders', 'kept', '{right}')"
        assert rows(address(there), held) == [(is_held,)]
    execute(address(there), "CREATE TABLE later (n int)")  # the default rights moved too
    later = "SELECT has_table_privilege('orders', 'later', 'INSERT')"
    assert rows(address(there), later) == [(True,)]
    assert rows(address(servers.postgres), "SELECT n FROM kept") == [(42,)]
    assert not list(root.glob("*.dump"))

    move.finish()
    assert not move.has_data


def test_a_failed_copy_leaves_the_source_unchanged(servers: Servers, root: Path) -> None:
    here, there = servers.postgres, servers.own["orders"].primary
    execute(address(here), TABLE)
    here.query("CREATE ROLE unknown_there")
    execute(dsn_for(here.dsn, database=DATABASE), "GRANT SELECT ON orders.kept TO unknown_there")
    move = Move(service="orders", source=here, target=there)
    with pytest.raises(StackError, match=r"pg_restore failed on postgres-orders: .*unknown_there"):
        move.copy(root)
    assert rows(address(here), "SELECT n FROM kept") == [(42,)]
    assert not list(root.glob("*.dump"))


def test_the_addresses_follow_the_recorded_server(servers: Servers, root: Path) -> None:
    with pytest.raises(StackError, match=r"databases\.json is missing, but postgres-orders"):
        known_stack(root)
    moving.record(root, [])
    shared = known_stack(root).primary("orders")
    moving.record(root, ["orders"])
    own = known_stack(root).primary("orders")
    assert f":{servers.postgres.port}/" in shared
    assert f":{servers.own['orders'].primary.port}/" in own
    assert f":{servers.own['orders'].standby.port}/" in known_stack(root).replicas("orders")[0]
    moving.record(root, [])
    assert known_stack(root).primary("orders") == shared
