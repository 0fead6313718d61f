"""Each service's role can do everything in its own schema, and nothing in the other."""

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
    """Runs a statement as a service's role, in a provisioned database of the test's own."""
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


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
@pytest.mark.parametrize(
    "statement",
    [
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
        "CREATE ROLE somebody",
        "SET ROLE {other}",
        "DROP SCHEMA {other} CASCADE",
    ],
)
def test_a_service_is_denied_whatever_is_not_its_own(
    run: Run, service: str, other: str, statement: str
) -> None:
    with pytest.raises(InsufficientPrivilege):
        run(service, statement.format(other=other))
    assert run(other, "SELECT word FROM thing") == [("mine",)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_stands_in_its_own_schema_alone(run: Run, service: str) -> None:
    assert run(service, "SELECT current_schemas(false)") == [([service],)]
    with pytest.raises(UndefinedTable):
        run(service, "SELECT * FROM auth_user")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_everything_in_its_own_schema(run: Run, service: str) -> None:
    run(service, "UPDATE thing SET word = 'changed'")
    run(service, "ALTER TABLE thing RENAME TO renamed")
    run(service, "TRUNCATE renamed RESTART IDENTITY")
    assert run(service, "SELECT count(*) FROM renamed") == [(0,)]


def test_a_transaction_left_open_is_ended_by_the_server(run: Run) -> None:
    assert run("orders", "SHOW idle_in_transaction_session_timeout") == [("1min",)]


def test_provisioning_again_changes_nothing(run: Run, postgres: Postgres, name: str) -> None:
    provision(postgres.dsn, database=name, services=SERVICES)

    assert run("orders", "SELECT word FROM thing") == [("mine",)]
    with pytest.raises(InsufficientPrivilege):
        run("orders", "SELECT * FROM accounts.thing")


def test_a_copy_of_a_template_is_closed_to_strangers_too(
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


def test_two_that_provision_at_once_wait_for_each_other(postgres: Postgres, name: str) -> None:
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
