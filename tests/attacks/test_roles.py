"""The runtime role of a service changes rows, and neither tables nor facts. The reader only reads.
The commands that need the owner of the schema say so."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import StringIO
from itertools import product
from typing import Any

import psycopg2
import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg2.errors import InsufficientPrivilege

from placement.owner import OwnerNeeded, as_owner
from placement.provision import Passwords, dsn_for, owner_of, provision, reader_of
from placement.router import primaries
from stack.servers import Postgres
from tests.support.embedded import ROLE_PASSWORD
from tests.support.surroundings import CHECKOUT, SERVICES

pytestmark = [
    pytest.mark.shape("accounts", "orders"),
    pytest.mark.django_db(transaction=True, databases=primaries()),
]
FACTS = {
    "accounts": "accounts_userhistory",
    "orders": "orders_storedevent",
    "lab": "lab_userevent",
}
SECRETS = ("django_session", "auth_user", "logins_attempts")
CHANGES_OF_FACTS = (
    "UPDATE {facts} SET id = id",
    "SELECT 1 FROM {facts} FOR UPDATE",
    "DELETE FROM {facts}",
    "TRUNCATE {facts}",
    "MERGE INTO {facts} f USING {facts} o ON f.id = o.id WHEN MATCHED THEN DELETE",
    "INSERT INTO {facts} SELECT * FROM {facts} ON CONFLICT (id) DO UPDATE SET id = excluded.id",
    "DO $$ BEGIN LOCK TABLE {facts} IN ACCESS EXCLUSIVE MODE; END $$",
    "ALTER TABLE {facts} DISABLE TRIGGER ALL",
    "ALTER TABLE {facts} RENAME TO gone",
    "ALTER TABLE {facts} OWNER TO CURRENT_USER",
    "ALTER TABLE {facts} ENABLE ROW LEVEL SECURITY",
    "DROP TABLE {facts} CASCADE",
    "CREATE RULE forge AS ON INSERT TO {facts} DO INSTEAD NOTHING",
    "CREATE TRIGGER forge BEFORE INSERT ON {facts} EXECUTE FUNCTION unique_key_recheck()",
)
CHANGES_OF_THE_SCHEMA = (
    "CREATE TABLE mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE INDEX ON {facts} (id)",
    "DROP SCHEMA {service} CASCADE",
    "DELETE FROM django_migrations",
    "SELECT setval(pg_get_serial_sequence('{facts}', 'id'), 1)",
    "CREATE PUBLICATION mine FOR TABLE {facts}",
    "SET session_replication_role = replica",
    "COPY {facts} TO PROGRAM 'cat'",
    "COPY {facts} TO '/tmp/facts'",
    "SET ROLE {owner}",
    "SET SESSION AUTHORIZATION {owner}",
    # Of its own role, PostgreSQL lets each session change the password and settings.
    "ALTER ROLE {owner} PASSWORD 'mine'",
    "ALTER ROLE {owner} SET search_path = public",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "GRANT {owner} TO CURRENT_USER",
    "SELECT pg_read_file('/etc/passwd')",
)
# To a role with some right to the object, PostgreSQL grants nothing and only warns.
GRANTS = (
    "GRANT ALL ON {facts} TO CURRENT_USER",
    "GRANT UPDATE, DELETE, TRUNCATE ON {facts} TO PUBLIC",
    "GRANT ALL ON SCHEMA {service} TO CURRENT_USER",
    "GRANT ALL ON SCHEMA {service} TO PUBLIC",
)
RIGHTS = """
SELECT c.relacl::text, n.nspacl::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)
"""
Ask = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def session(postgres: Postgres, role: str, *, database: str = "") -> Iterator[Ask]:
    """A function that runs a statement as this role in the tests' database, in autocommit mode."""
    name = database or connections["default"].settings_dict["NAME"]
    dsn = dsn_for(postgres.dsn, database=name, role=role, password=ROLE_PASSWORD)
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True

        def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []

        yield ask


@pytest.mark.parametrize("service", FACTS)
def test_a_runtime_role_changes_neither_facts_nor_tables_nor_rights(
    postgres: Postgres, service: str
) -> None:
    names = {"facts": FACTS[service], "service": service, "owner": owner_of(service)}
    with session(postgres, service) as ask:
        before = ask(RIGHTS, FACTS[service])
        assert len(before) == 1
        for statement in (*CHANGES_OF_FACTS, *CHANGES_OF_THE_SCHEMA):
            try:
                ask(statement.format(**names))
            except InsufficientPrivilege:
                continue
            pytest.fail(f"{service} may run: {statement}")
        for statement in GRANTS:
            ask(statement.format(**names))
        assert ask(RIGHTS, FACTS[service]) == before
        rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
        held = [
            r for r in rights if ask("SELECT has_table_privilege(%s, %s)", FACTS[service], r)[0][0]
        ]
        assert held == ["SELECT", "INSERT"]


@pytest.mark.parametrize("service", FACTS)
def test_a_reader_only_reads(postgres: Postgres, service: str) -> None:
    facts = FACTS[service]
    with session(postgres, reader_of(service)) as ask:
        assert ask(f"SELECT count(*) >= 0 FROM {facts}") == [(True,)]  # noqa: S608
        ask("SET default_transaction_read_only = off")  # an intruder would
        for statement in (f"INSERT INTO {facts} SELECT * FROM {facts}", *CHANGES_OF_FACTS):  # noqa: S608
            with pytest.raises(InsufficientPrivilege):
                ask(statement.format(facts=facts))


@pytest.mark.parametrize("service", FACTS)
def test_a_reader_reads_only_the_tables_that_replicas_serve(
    postgres: Postgres, service: str
) -> None:
    """A row of django_session has the key that the cookie of a member of staff has."""
    tables = (
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'v') AND has_table_privilege(oid, 'SELECT')"
    )
    own = {model._meta.db_table for model in apps.get_app_config(service).get_models()}
    with session(postgres, reader_of(service)) as ask:
        readable = {name for (name,) in ask(tables)}
        assert own <= readable
        assert all(name.startswith(f"{service}_") for name in readable)
        for secret in SECRETS if service == "accounts" else ():  # in the schema of `default`
            with pytest.raises(InsufficientPrivilege):
                ask(f"SELECT * FROM {secret}")  # noqa: S608


def test_both_services_can_open_all_their_connections(postgres: Postgres) -> None:
    """One service can't use up the connections of the other, even with its readers' role."""
    roles = [
        role for service in SERVICES for role in (service, owner_of(service), reader_of(service))
    ]
    [(limits,)] = postgres.query(
        "SELECT sum(rolconnlimit) FROM pg_roles WHERE rolname = ANY(%s)", roles
    )
    [(most,)] = postgres.query("SHOW max_connections")
    [(reserved,)] = postgres.query("SHOW superuser_reserved_connections")
    assert limits < int(most) - int(reserved)
    compose = (CHECKOUT / "docker" / "servers.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"max_connections=(\d+)", compose)) == {most}


def test_a_role_cannot_connect_to_other_databases(postgres: Postgres) -> None:
    """Also in a cluster where all roles may, such as a new one. All test runs share the cluster."""
    others = ("postgres", "template1")
    services = dict.fromkeys(settings.PLACEMENT_HOMES, Passwords.same(ROLE_PASSWORD))
    with closing(psycopg2.connect(postgres.dsn)) as alone, alone.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('rights to connect'))")
        for database in others:
            postgres.query(f"GRANT CONNECT ON DATABASE {database} TO PUBLIC")
        name = connections["default"].settings_dict["NAME"]
        provision(postgres.dsn, database=name, services=services)
        for database, role in product(others, ("accounts", "accounts_owner", "accounts_reader")):
            with (
                pytest.raises(psycopg2.OperationalError, match="permission denied for database"),
                session(postgres, role, database=database),
            ):
                pass


@pytest.mark.parametrize(
    ("command", "service"),
    [
        (("migrate",), "ACCOUNTS"),
        (("migrate", "orders"), "ACCOUNTS"),
        (("outbox", "rebuild", "order_view"), "ORDERS"),
        (("outbox", "restamp", "accounts"), "ACCOUNTS"),
    ],
)
def test_a_command_that_needs_the_owner_says_so(
    monkeypatch: pytest.MonkeyPatch, streams: Any, command: tuple[str, ...], service: str
) -> None:
    monkeypatch.setattr(settings, "PLACEMENT_OWNERS", {})
    with pytest.raises(CommandError, match=f"set {service}_OWNER_DATABASE_URL"):
        call_command(*command, stdout=StringIO())


def test_an_owner_without_a_schema_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = settings.PLACEMENT_OWNERS["default"] | {"OPTIONS": {"options": "-c search_path=none"}}
    monkeypatch.setitem(settings.PLACEMENT_OWNERS, "default", owner)
    with pytest.raises(OwnerNeeded, match="accounts_owner has no schema"), as_owner("default"):
        pass


def test_forget_needs_the_owner_and_erases_nothing_without_it(
    monkeypatch: pytest.MonkeyPatch, streams: Any
) -> None:
    from accounts.domain.commands import RegisterUser  # where it is installed
    from accounts.handlers import register_user

    command = RegisterUser(name="Ada", email="ada@example.com", password="a-Long-one-7")
    register_user(command)
    monkeypatch.setattr(settings, "PLACEMENT_OWNERS", {})
    with pytest.raises(CommandError, match="set ACCOUNTS_OWNER_DATABASE_URL"):
        call_command("forget", "ada@example.com", stdout=StringIO())
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT name FROM accounts_user")
        assert cursor.fetchall() == [("Ada",)]
