"""The role of a service has full access to its own schema and none to the other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege, UndefinedTable

from placement.provision import dsn_for, provision
from stack.servers import Postgres
from tests.support import databases
from tests.support.embedded import ROLE_PASSWORD

SERVICES = {"accounts": ROLE_PASSWORD, "orders": ROLE_PASSWORD}
BOTH_WAYS = [("accounts", "orders"), ("orders", "accounts")]
Run = Callable[[str, str], list[tuple[object, ...]]]


@pytest.fixture
def name(worker: str) -> str:
    return databases.name_for(f"{worker}_provision")


@pytest.fixture
def run(postgres: Postgres, name: str) -> Iterator[Run]:
    """Runs a statement as the role of a service, in a database provisioned for this test."""
    provision(postgres.dsn, database=name, services=SERVICES)

    def as_role(role: str, statement: str) -> list[tuple[object, ...]]:
        dsn = dsn_for(postgres.dsn, database=name, role=role, password=ROLE_PASSWORD)
        with closing(psycopg2.connect(dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    for service in SERVICES:
        as_role(service, "CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, word text)")
        as_role(service, "INSERT INTO thing (word) VALUES ('mine')")
    yield as_role
    databases.drop(postgres.dsn, name=name)


DENIED = (
    "SELECT * FROM {other}.thing",
    "INSERT INTO {other}.thing (word) VALUES ('theirs')",
    "UPDATE {other}.thing SET word = 'theirs'",
    "DELETE FROM {other}.thing",
    "TRUNCATE {other}.thing",
    "DROP TABLE {other}.thing",
    "SELECT nextval('{other}.thing_id_seq')",
    "SELECT pg_relation_size('{other}.thing')",
    "CREATE TABLE {other}.mine (id int)",
    "CREATE TABLE mine (id int REFERENCES {other}.thing)",
    "CREATE TABLE public.mine (id int)",
    "CREATE SCHEMA elsewhere",
    "CREATE ROLE intruder",
    "SET ROLE {other}",
    "DROP SCHEMA {other} CASCADE",
)


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_has_no_access_outside_its_own_schema(run: Run, service: str, other: str) -> None:
    for statement in DENIED:
        try:
            run(service, statement.format(other=other))
        except InsufficientPrivilege:
            assert run(other, "SELECT word FROM thing") == [("mine",)], statement
        else:
            pytest.fail(f"{service} may run: {statement}")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_full_access_to_its_own_schema_alone(run: Run, service: str) -> None:
    assert run(service, "SELECT current_schemas(false)") == [([service],)]
    with pytest.raises(UndefinedTable):
        run(service, "SELECT * FROM auth_user")
    run(service, "UPDATE thing SET word = 'changed'")
    run(service, "ALTER TABLE thing RENAME TO renamed")
    run(service, "TRUNCATE renamed RESTART IDENTITY")
    assert run(service, "SELECT count(*) FROM renamed") == [(0,)]
    # The server ends a transaction that was left open.
    assert run(service, "SHOW idle_in_transaction_session_timeout") == [("1min",)]
    [(settings,)] = run(service, "SELECT rolconfig FROM pg_roles WHERE rolname = current_user")
    assert "default_transaction_isolation=read committed" in settings


def test_provisioning_again_changes_nothing(run: Run, postgres: Postgres, name: str) -> None:
    provision(postgres.dsn, database=name, services=SERVICES)

    assert run("orders", "SELECT word FROM thing") == [("mine",)]
    with pytest.raises(InsufficientPrivilege):
        run("orders", "SELECT * FROM accounts.thing")


def test_other_roles_cannot_read_a_copy_of_a_template(
    run: Run, postgres: Postgres, name: str
) -> None:
    copy = f"{name}_copy"
    provision(postgres.dsn, database=copy, services=SERVICES, template=name)
    try:
        accounts = dsn_for(postgres.dsn, database=copy, role="accounts", password=ROLE_PASSWORD)
        with closing(psycopg2.connect(accounts)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT word FROM thing")
            assert cursor.fetchall() == [("mine",)]
            with pytest.raises(InsufficientPrivilege):
                cursor.execute("SELECT * FROM orders.thing")
        granted = postgres.query("SELECT has_database_privilege('public', %s, 'CONNECT')", copy)
        assert granted == [(False,)]
    finally:
        databases.drop(postgres.dsn, name=copy)


def test_concurrent_provisioning_is_serialized(postgres: Postgres, name: str) -> None:
    database, start = f"{name}_race", Barrier(2)

    def race() -> None:
        start.wait(10)
        provision(postgres.dsn, database=database, services=SERVICES)

    try:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(race), pool.submit(race)]:
                future.result(timeout=20)
    finally:
        databases.drop(postgres.dsn, name=database)
