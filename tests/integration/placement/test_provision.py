"""The roles of a service: its owner, its runtime role and its reader. None has any right on the
schema of the other service."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import psycopg2
import pytest
from psycopg2.errors import (
    InsufficientPrivilege,
    ReadOnlySqlTransaction,
    UndefinedTable,
)

from placement import drivers
from placement.provision import (
    CONNECTIONS,
    OWNER_CONNECTIONS,
    Passwords,
    dsn_for,
    grant,
    owner_of,
    provision,
    reader_of,
    ungranted,
)
from stack.servers import Postgres
from tests.support import databases
from tests.support.embedded import ROLE_PASSWORD

SERVICES = dict.fromkeys(("accounts", "orders"), Passwords.same(ROLE_PASSWORD))
BOTH_WAYS = [("accounts", "orders"), ("orders", "accounts")]
Run = Callable[[str, str], list[tuple[object, ...]]]


@pytest.fixture
def name(worker: str) -> str:
    return databases.name_for(f"{worker}_provision")


def result_as(
    role: str, postgres: Postgres, *, database: str, statement: str
) -> list[tuple[object, ...]]:
    dsn = dsn_for(postgres.dsn, database=database, role=role, password=ROLE_PASSWORD)
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def run(postgres: Postgres, name: str) -> Iterator[Run]:
    """Runs a statement as the role of a service, in a database provisioned for this test."""
    provision(postgres.dsn, database=name, services=SERVICES)

    def as_role(role: str, statement: str) -> list[tuple[object, ...]]:
        return result_as(role, postgres, database=name, statement=statement)

    for service in SERVICES:
        create = "CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, word text)"
        as_role(owner_of(service), create)
        as_role(service, "INSERT INTO thing (word) VALUES ('mine')")
        finish_migrations(postgres, name, service)
    yield as_role
    databases.drop(postgres.dsn, name=name)


def finish_migrations(postgres: Postgres, name: str, service: str) -> None:
    """What `migrate` does after the migrations."""
    owner = dsn_for(postgres.dsn, database=name, role=owner_of(service), password=ROLE_PASSWORD)
    with closing(drivers.connect(owner)) as connection, connection.cursor() as cursor:
        grant(cursor, service)


def ungranted_in(postgres: Postgres, name: str, service: str) -> list[str]:
    """What a process of the service finds at its start."""
    dsn = dsn_for(postgres.dsn, database=name, role=service, password=ROLE_PASSWORD)
    with closing(drivers.connect(dsn)) as connection, connection.cursor() as cursor:
        return ungranted(cursor, service, ["orders_fact", "orders_log"])


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
    "SET ROLE {other}_owner",
    "DROP SCHEMA {other} CASCADE",
)


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_has_no_access_outside_its_own_schema(run: Run, service: str, other: str) -> None:
    for role in (service, owner_of(service), reader_of(service)):
        for statement in DENIED:
            try:
                run(role, statement.format(other=other))
            except (InsufficientPrivilege, ReadOnlySqlTransaction):
                assert run(other, "SELECT word FROM thing") == [("mine",)], statement
            else:
                pytest.fail(f"{role} may run: {statement}")


@pytest.mark.parametrize("service", SERVICES)
def test_an_owner_has_full_access_to_its_schema_and_a_runtime_role_to_the_rows(
    run: Run, service: str
) -> None:
    owner = owner_of(service)
    for role in (service, owner, reader_of(service)):
        assert run(role, "SELECT current_schemas(false)") == [([service],)]
        with pytest.raises(UndefinedTable):
            run(role, "SELECT * FROM auth_user")
        # The server ends a transaction that was left open.
        assert run(role, "SHOW idle_in_transaction_session_timeout") == [("1min",)]
    run(service, "UPDATE thing SET word = 'changed'")
    run(service, "SELECT nextval('thing_id_seq')")
    run(service, "DELETE FROM thing")
    run(owner, "ALTER TABLE thing RENAME TO renamed")
    run(owner, "TRUNCATE renamed RESTART IDENTITY")
    assert run(service, "SELECT count(*) FROM renamed") == [(0,)]


@pytest.fixture
def new_service(postgres: Postgres, worker: str) -> Iterator[str]:
    """The name of a service whose roles don't exist yet, and of its database. Settings of a role
    stay in the cluster, which all test runs share."""
    service = databases.name_for(f"{worker}_new")
    yield service
    databases.drop(postgres.dsn, name=service)
    for role in (service, owner_of(service), reader_of(service)):
        postgres.query(f"DROP ROLE IF EXISTS {role}")


def test_the_roles_of_a_service_have_their_settings_and_limits_and_no_attributes(
    postgres: Postgres, new_service: str
) -> None:
    owner, reader = owner_of(new_service), reader_of(new_service)
    expected = {
        f"search_path={new_service}",
        "idle_in_transaction_session_timeout=60s",
        "default_transaction_isolation=read committed",
    }
    for _ in range(2):
        provision(
            postgres.dsn,
            database=new_service,
            services={new_service: Passwords.same(ROLE_PASSWORD)},
        )
        found = postgres.query(
            "SELECT rolname, rolconfig, rolconnlimit, rolcreatedb OR rolcreaterole OR rolbypassrls"
            " FROM pg_roles WHERE rolname = ANY(%s)",
            [new_service, owner, reader],
        )
        assert {role: (set(config), *others) for role, config, *others in found} == {
            new_service: (expected, CONNECTIONS, False),
            owner: (expected, OWNER_CONNECTIONS, False),
            reader: (expected | {"default_transaction_read_only=on"}, CONNECTIONS, False),
        }
        for role in (new_service, owner, reader):
            changed = "CREATEDB CREATEROLE BYPASSRLS CONNECTION LIMIT -1"
            postgres.query(f"ALTER ROLE {role} {changed}")
            postgres.query(f"ALTER ROLE {role} RESET ALL")


def test_a_table_that_its_owner_cannot_change_is_append_only_for_the_service(
    run: Run, postgres: Postgres, name: str
) -> None:
    run("orders_owner", "REVOKE UPDATE, DELETE ON thing FROM CURRENT_USER")
    run("orders_owner", "CREATE TABLE django_migrations (id int)")
    provision(postgres.dsn, database=name, services=SERVICES)
    run("orders", "INSERT INTO thing (word) VALUES ('second')")
    for change in ("UPDATE thing SET word = ''", "DELETE FROM thing"):
        with pytest.raises(InsufficientPrivilege):
            run("orders", change)
    with pytest.raises(InsufficientPrivilege):  # or the next migrate would do wrong things
        run("orders", "INSERT INTO django_migrations VALUES (1)")


def test_a_new_table_is_readable_and_changeable_only_after_the_migrations(
    run: Run, postgres: Postgres, name: str
) -> None:
    """A migration may make a table append-only, and until its end no role can change the table."""
    run("orders_owner", "CREATE TABLE orders_fact (id int)")
    run("orders", "INSERT INTO orders_fact VALUES (1)")
    for change in ("UPDATE orders_fact SET id = 2", "DELETE FROM orders_fact"):
        with pytest.raises(InsufficientPrivilege):
            run("orders", change)
    with pytest.raises(InsufficientPrivilege):
        run("orders_reader", "SELECT * FROM orders_fact")
    assert ungranted_in(postgres, name, "orders") == ["orders_fact"]

    run("orders_owner", "CREATE TABLE orders_log (id int)")
    run("orders_owner", "REVOKE UPDATE, DELETE ON orders_log FROM CURRENT_USER")
    finish_migrations(postgres, name, "orders")
    run("orders", "UPDATE orders_fact SET id = 2")
    assert ungranted_in(postgres, name, "orders") == []
    assert run("orders_reader", "SELECT id FROM orders_fact") == [(2,)]
    with pytest.raises(InsufficientPrivilege):  # not a table of the service's app
        run("orders_reader", "SELECT * FROM thing")


def test_a_role_loses_the_settings_and_memberships_of_an_intruder(
    postgres: Postgres, new_service: str
) -> None:
    def run(statement: str) -> list[tuple[object, ...]]:
        return result_as(new_service, postgres, database=new_service, statement=statement)

    def prepare() -> None:
        services = {new_service: Passwords.same(ROLE_PASSWORD)}
        provision(postgres.dsn, database=new_service, services=services)

    about = "SELECT current_setting('default_transaction_read_only'), current_schemas(false)"
    prepare()
    # A role may change its own settings.
    run(f'ALTER ROLE CURRENT_USER IN DATABASE "{new_service}" SET search_path = pg_catalog')
    run("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
    postgres.query(f"GRANT pg_monitor TO {new_service}")
    assert run(about) == [("on", ["pg_catalog"])]
    prepare()
    assert run(about) == [("off", [new_service])]
    assert run("SELECT pg_has_role('pg_monitor', 'MEMBER')") == [(False,)]


def test_provisioning_names_the_databases_that_are_open_to_every_role(
    postgres: Postgres, name: str
) -> None:
    database, other = f"{name}_closed", f"{name}_open"
    postgres.query(f'CREATE DATABASE "{other}"')
    try:
        opened = provision(postgres.dsn, database=database, services={})
        assert other in opened
        assert database not in opened
    finally:
        for each in (database, other):
            databases.drop(postgres.dsn, name=each)


def test_a_database_of_an_earlier_release_gets_owners(
    postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier, each service had one role, which owned its schema and could use temporary tables.

    While a backup holds a table, provision gives up soon: other sessions would wait behind it.
    """
    database = f"{name}_before"
    provision(postgres.dsn, database=f"{name}_roles", services=SERVICES)  # only for the roles
    postgres.query(f'CREATE DATABASE "{database}"')
    before = (
        f'GRANT CONNECT, TEMPORARY ON DATABASE "{database}" TO orders;'
        "CREATE SCHEMA orders AUTHORIZATION orders; SET ROLE orders;"
        "CREATE TABLE fact (id int); REVOKE UPDATE, DELETE ON fact FROM CURRENT_USER;"
        "CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, word text);"
        "CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'"
    )
    try:
        with closing(psycopg2.connect(dsn_for(postgres.dsn, database=database))) as connection:
            with connection.cursor() as cursor:
                cursor.execute(before)
            connection.commit()
            with connection.cursor() as backup, monkeypatch.context() as patch:
                backup.execute("LOCK TABLE orders.thing IN ACCESS SHARE MODE")
                patch.setattr("placement.provision.LOCK_SECONDS", 0.05)
                with pytest.raises(drivers.driver.errors.LockNotAvailable):
                    provision(postgres.dsn, database=database, services=SERVICES)
        for _ in range(2):
            provision(postgres.dsn, database=database, services=SERVICES)
        dsn = dsn_for(postgres.dsn, database=database, role="orders", password=ROLE_PASSWORD)
        with closing(psycopg2.connect(dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO fact VALUES (1); INSERT INTO thing (word) VALUES ('x')")
                cursor.execute("UPDATE thing SET word = 'y' RETURNING double(id)")
                assert cursor.fetchall() == [(2,)]
                for change in (
                    "UPDATE fact SET id = 2",
                    "DROP TABLE thing",
                    "CREATE TABLE mine ()",
                    "CREATE TEMPORARY TABLE mine ()",
                ):
                    with pytest.raises(InsufficientPrivilege):
                        cursor.execute(change)
    finally:
        for each in (database, f"{name}_roles"):
            databases.drop(postgres.dsn, name=each)


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
