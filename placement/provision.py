"""Creates roles, schemas and grants for production, the stack and the tests.

Each service has one login role with the service's name. The role owns the schema of the same name
and has no right on any other schema. PUBLIC has no right on the database.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extensions import encrypt_password, parse_dsn
from psycopg2.sql import SQL, Composable, Identifier, Literal

IDLE_IN_TRANSACTION_SECONDS: Final = 60
_LOCK: Final = 0x6D69746F736973  # "mitosis": an advisory lock in the administrator's database


def dsn_for(admin_dsn: str, *, database: str, role: str | None = None, password: str = "") -> str:
    """Return the URL of `database` on the same servers, for `role` or for the administrator."""
    parts = parse_dsn(admin_dsn)
    parts.pop("dbname", None)
    own_user, own_password = parts.pop("user", ""), parts.pop("password", "")
    user, secret = (own_user, own_password) if role is None else (role, password)
    hosts = parts.pop("host", "localhost").split(",")
    ports = (parts.pop("port", "5432").split(",") * len(hosts))[: len(hosts)]
    where = ",".join(f"{_quoted(host)}:{port}" for host, port in zip(hosts, ports, strict=True))
    credentials = f"{quote(user, safe='')}:{quote(secret, safe='')}"
    options = f"?{urlencode(parts)}" if parts else ""
    return f"postgresql://{credentials}@{where}/{quote(database, safe='')}{options}"


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def provision(
    admin_dsn: str, *, database: str, services: Mapping[str, str], template: str | None = None
) -> None:
    """Prepare `database` for `services` ({name: password}). Idempotent.

    A missing database is created, from `template` if given. The new database gets no grants and no
    role settings from the template, so both are made again. Concurrent runs wait for each
    other. The administrator must be a superuser. Raises psycopg2.Error.
    """
    with _session(admin_dsn) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        for service, password in services.items():
            _make_role(cursor, service, password)
        _make_database(cursor, database, template)
        with _session(dsn_for(admin_dsn, database=database)) as inside:
            _run(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in services:
                _run(inside, "CREATE SCHEMA IF NOT EXISTS {0} AUTHORIZATION {0}", service)
                _run(inside, "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database, service)


def _make_role(cursor: Cursor, role: str, password: str) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    if not cursor.fetchone():
        _run(cursor, "CREATE ROLE {}", role)
    _run(
        cursor,
        "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
        role,
    )
    # Encrypt the password here, so that no server log contains the plain password.
    secret = encrypt_password(password, role, cursor.connection, "scram-sha-256")
    _run(cursor, "ALTER ROLE {} PASSWORD {}", role, Literal(secret))
    # Without "$user" and public in the path, a name outside the service's schema is an error.
    _run(cursor, "ALTER ROLE {0} SET search_path = {0}", role)
    limit = Literal(f"{IDLE_IN_TRANSACTION_SECONDS}s")
    _run(cursor, "ALTER ROLE {} SET idle_in_transaction_session_timeout = {}", role, limit)
    # Sessions through a pooler may lose the options of the address (config/settings/data.py).
    _run(cursor, "ALTER ROLE {} SET default_transaction_isolation = 'read committed'", role)


def _make_database(cursor: Cursor, database: str, template: str | None) -> None:
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
    if not cursor.fetchone():
        if template is None:
            _run(cursor, "CREATE DATABASE {}", database)
        else:
            _run(cursor, "CREATE DATABASE {} TEMPLATE {}", database, template)
    _run(cursor, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _run(cursor: Cursor, statement: str, *names: str | Composable) -> None:
    """Execute a statement. Names become quoted identifiers; a Composable is inserted unchanged."""
    parts = [name if isinstance(name, Composable) else Identifier(name) for name in names]
    cursor.execute(SQL(statement).format(*parts))


@contextmanager
def _session(dsn: str) -> Iterator[Any]:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True  # CREATE DATABASE can't run in a transaction
        with connection.cursor() as cursor:
            yield cursor
