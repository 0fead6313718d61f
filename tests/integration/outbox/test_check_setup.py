"""`manage.py outbox check-setup`: one line for each cause, and nothing is written."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from io import StringIO
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg2.extensions import make_dsn

from outbox import consumer as consuming
from outbox import streams as module
from outbox import tables
from outbox.consumer import Consumer
from tests.integration.outbox.conftest import consumer_of
from tests.support import databases
from tests.support.small_projects import CONSUMERS, PACKAGE, with_table_names, write_project

# In another shape, the project also has a producer that is not installed.
pytestmark = [
    pytest.mark.usefixtures("shop", "streams"),
    pytest.mark.shape("accounts", "orders"),
]


def check_setup() -> tuple[list[str], bool]:
    """The lines of the command, and whether it failed."""
    out = StringIO()
    try:
        call_command("outbox", "check-setup", stdout=out)
    except CommandError:
        return out.getvalue().splitlines(), True
    return out.getvalue().splitlines(), False


def found() -> list[str]:
    """The findings of the command, without the words in front of them."""
    lines, failed = check_setup()
    assert failed is any(line.startswith("error ") for line in lines), lines
    findings = [line for line in lines if line.startswith(("error ", "warning "))]
    return [line.partition("  ")[2].strip() for line in findings]


def only_finding() -> str:
    findings = found()
    assert len(findings) == 1, findings
    return findings[0]


@pytest.fixture
def address(settings: Any) -> Iterator[Callable[[str], None]]:
    """Returns a function that sets another address of the stream server."""

    def use(url: str) -> None:
        settings.OUTBOX_STREAMS_URL = url
        close()

    def close() -> None:
        module.connect().close()
        module.connect.cache_clear()

    kept = module.connect()
    module.connect.cache_clear()
    yield use
    close()
    kept.close()


def test_a_sound_setup_is_described_and_nothing_is_written(shop, server, monkeypatch):
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer_of(shop, print)]))
    for alias in {each.alias for each in tables.every()}:
        options = connections[alias].settings_dict["OPTIONS"]
        monkeypatch.setitem(options, "options", "-c default_transaction_read_only=on")
        connections[alias].close()
    try:
        lines, failed = check_setup()
    finally:
        for connection in connections.all():
            connection.close()
    assert not failed, lines
    assert server.dbsize() == 0
    assert lines[-1] == "errors: 0, warnings: 0"
    assert all(line.startswith("ok  ") for line in lines[:-1])
    text = "\n".join(lines)
    assert f"{shop.label}: 6 tables in '{shop.alias}', PostgreSQL 1" in text
    kinds = f"handles {shop.label}.thing.changed.v1; ignores {shop.label}.thing.noted.v1"
    assert f"{shop.label}.probe: {kinds}" in text
    assert "streams: Valkey" in text
    assert "maxmemory-policy noeviction, saves to disk" in text
    assert "for-tests" not in text  # the password


UNIQUE = "(consumer, producer, partition, entry)"
DAMAGE = {
    "an index is missing": (
        "DROP INDEX {label}_newest_position",
        "CREATE INDEX {label}_newest_position ON {position} (consumer, producer, partition, id)",
        '"{position}" has no index {label}_newest_position. Run manage.py makemigrations {label},',
    ),
    "a build of an index failed": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{label}_outbox_xid'::regclass",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = '{label}_outbox_xid'::regclass",
        'The index {label}_outbox_xid of "{event}" is invalid: its build failed. REINDEX INDEX',
    ),
    "a constraint is missing": (
        "ALTER TABLE {parked} DROP CONSTRAINT {label}_parked_once",
        "ALTER TABLE {parked} ADD CONSTRAINT {label}_parked_once UNIQUE {unique}",
        '"{parked}" has no index {label}_parked_once.',
    ),
    "a table is missing": (
        "ALTER TABLE {state} RENAME TO elsewhere",
        "ALTER TABLE elsewhere RENAME TO {state}",
        '{label} isn\'t migrated: no table "{state}". Run manage.py makemigrations {label}, then',
    ),
    "a column is missing": (
        "ALTER TABLE {parked} RENAME COLUMN dropped_by TO other",
        "ALTER TABLE {parked} RENAME COLUMN other TO dropped_by",
        '{label} isn\'t migrated: "{parked}" has no column dropped_by.',
    ),
    "a right is missing": (
        "REVOKE SELECT ON {state} FROM {label}",
        "GRANT SELECT ON {state} TO {label}",
        "A query of the checks failed: permission denied for table {state}",
    ),
    "ids have 32 bits": (
        "ALTER TABLE {position} ALTER COLUMN id TYPE integer",
        "ALTER TABLE {position} ALTER COLUMN id TYPE bigint",
        'The ids of "{position}" have 32 bits in the database.',
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_tables_that_differ_from_the_models_are_one_finding(shop, postgres, case):
    names = {name: getattr(shop, name)._meta.db_table for name in tables.BASES}
    damage, repair, line = (
        text.format(label=shop.label, unique=UNIQUE, **names) for text in DAMAGE[case]
    )
    dsn = make_dsn(postgres.dsn, dbname=shop.connection.settings_dict["NAME"])
    with closing(psycopg2.connect(dsn)) as superuser:  # an owner can't change the catalog
        superuser.autocommit = True
        with superuser.cursor() as cursor:
            cursor.execute(f"SET search_path = {shop.label}")
            cursor.execute(damage)
            try:
                assert line in only_finding()
            finally:
                cursor.execute(repair)
    assert found() == []


def test_a_database_that_does_not_answer_is_one_finding_for_all_aliases(shop, monkeypatch):
    aliases = list(dict.fromkeys(each.alias for each in tables.every()))
    for alias in aliases:
        for name, value in {"HOST": "127.0.0.1", "PORT": "9"}.items():
            monkeypatch.setitem(connections[alias].settings_dict, name, value)
        connections[alias].close()
    line = only_finding()
    assert line.startswith(f"The database {' and '.join(map(repr, aliases))} can't be used: ")
    assert "Connection refused" in line
    assert f"Correct DATABASES['{aliases[0]}']" in line


def test_a_database_without_a_name_is_one_finding(shop, monkeypatch):
    connections[shop.alias].close()
    monkeypatch.setitem(connections[shop.alias].settings_dict, "NAME", "")
    assert only_finding().startswith(f"The database {shop.alias!r} can't be used: ")


def test_another_number_of_partitions_is_one_finding_for_both_servers(shop, server, settings):
    for each in tables.every():
        each.rows(each.state).create(name="partitions", value="16")
        server.hset(f"{{{each.label}}}:cursor", mapping={"at": "1-1", "partitions": "16"})
    settings.OUTBOX_PARTITIONS = 8
    module.connect().partitions = 8
    line = only_finding()
    assert "16 partitions and OUTBOX_PARTITIONS is 8." in line
    assert "Set OUTBOX_PARTITIONS to 16" in line


def test_a_type_that_a_consumer_does_not_list_is_a_warning(shop, record, monkeypatch):
    types = {f"{shop.label}.thing.noted.v1": print}
    consumer = Consumer(label=shop.label, name="probe", handlers=types)
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer]))
    assert found() == []
    record("a", 1)
    missing = f"{shop.label}.thing.changed.v1"
    assert only_finding().startswith(
        f"The consumer probe of {shop.label} doesn't list {missing}: it would park these events."
    )


def test_a_listed_producer_that_published_nothing_here_is_a_warning(server, settings):
    server.hset("{elsewhere}:cursor", "at", "1-1")
    settings.OUTBOX_PRODUCERS = ["elsewhere", "elswhere"]
    assert only_finding().startswith("No service has published as 'elswhere' on this stream server")


@pytest.mark.parametrize(
    ("change", "finding", "cure"),
    [
        (("@127.0.0.1", "@no-host.invalid"), "doesn't answer", "the host in OUTBOX_STREAMS_URL"),
        (("for-tests@", "wrong@"), "refuses the login", "redis://USER:PASSWORD@HOST:PORT/0"),
        ((":for-tests@", ""), "refuses the login", "redis://USER:PASSWORD@HOST:PORT/0"),
        (("/0", "/99"), "DB index is out of range", "Lower the number at the end"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_finding(valkey, address, change, finding, cure):
    address(valkey.url.replace(*change))
    line = only_finding()
    assert finding in line
    assert cure in line
    assert "for-tests" not in line


HTTP = b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize(
    ("scheme", "reply", "finding", "cure"),
    [
        ("redis", None, "Connection refused", "Start the server, or correct the host and the port"),
        ("redis", b"", "Connection closed", "If the server expects TLS, write rediss://"),
        ("rediss", HTTP, "doesn't answer", "If the server has no TLS, write redis://"),
        ("redis", HTTP, "another one", "name a Redis or Valkey server"),
    ],
)
def test_another_server_at_the_address_is_one_finding(address, scheme, reply, finding, cure):
    with other_server(reply) as port:
        address(f"{scheme}://127.0.0.1:{port}/0")
        line = only_finding()
    assert finding in line
    assert cure in line


@contextmanager
def other_server(reply: bytes | None) -> Iterator[int]:
    """Yields the port of a server that sends `reply` and ends each connection; with None, the port
    of no server."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply or b"")

    if reply is None:
        listener.close()
        yield port
        return
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_the_policy_is_reported_to_a_user_without_config(server, valkey, address):
    server.acl_setuser(
        "reader",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        commands=["-config"],
        categories=["+@all"],
    )
    address(valkey.url_of("reader", "x"))
    lines, failed = check_setup()
    assert not failed, lines
    assert "maxmemory-policy noeviction, saves to disk" in "\n".join(lines)
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("appendonly", "no")
    try:
        assert "set the policy to noeviction" in only_finding()
        server.config_set("maxmemory-policy", "noeviction")
        lines, failed = check_setup()
        assert not failed, lines
        assert "doesn't tell if it saves" in "\n".join(lines)
    finally:
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("appendonly", "yes")
        server.acl_deluser("reader")


def test_a_user_without_the_rights_of_the_service_is_one_finding(server, valkey, address):
    server.acl_setuser(
        "guest",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        commands=["-xadd"],
        categories=["+@all"],
    )
    address(valkey.url_of("guest", "x"))
    try:
        assert "outbox.keys.rules returns" in only_finding()
    finally:
        server.acl_deluser("guest")


def test_a_stream_server_that_saves_nothing_is_a_warning(server):
    server.config_set("appendonly", "no")
    try:
        assert only_finding().startswith("The stream server saves nothing to disk. Set appendonly")
    finally:
        server.config_set("appendonly", "yes")


@pytest.fixture
def database(postgres: Any) -> Iterator[str]:
    """The address of an empty database with the schema `sales`."""
    name = databases.name_for(f"small_{uuid4().hex[:8]}")
    postgres.query(f"CREATE DATABASE {name}")
    url = postgres.dsn.rpartition("/")[0] + f"/{name}"
    try:
        with (
            closing(psycopg2.connect(url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("CREATE SCHEMA sales")
        yield url
    finally:
        postgres.query(f"DROP DATABASE {name} WITH (FORCE)")


def test_tables_in_schemas_mixed_case_and_a_long_label_work(tmp_path, database, valkey):
    label = "a_label_with_as_many_bytes_as_can_be_47_exactly"
    project = write_project(
        tmp_path,
        label=label,
        models=with_table_names('sales"."Shop{}', "Shop{}", '"sales"."{}"'),
        consumers=CONSUMERS.replace("shop.", f"{label}."),
        database_url=database,
        streams_url=valkey.url,
    )
    for command in (
        ("makemigrations", label, "-v", "0"),
        ("migrate", "-v", "0"),
        ("makemigrations", "--check", "-v", "0"),
        ("outbox", "relay", "--once"),
        ("outbox", "check-setup"),
    ):
        done = project.manage(*command)
        assert done.status == 0, done.output
    assert "errors: 0, warnings: 0" in done.output
    migration = next((tmp_path / label / "migrations").glob("0001*.py")).read_text()
    assert f"{PACKAGE}.indexes" not in migration  # but a plain index
    with (
        closing(psycopg2.connect(database)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute('ALTER TABLE sales."ShopOutboxEvent" ALTER COLUMN id SET CACHE 20')
    done = project.manage("check", "--database", "default")
    assert 'Each session reserves 20 ids of "sales"."ShopOutboxEvent" at a time.' in done.output
