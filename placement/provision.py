"""Creates roles, schemas and grants for production, the stack and the tests.

Each service has a schema with its name, and three login roles:

- `orders_owner` owns the schema and everything in it. Migrations, rebuilds, restamps and erasures
  log in as this role, and no process that stays running.
- `orders` is the runtime role. It reads and writes rows, and can't create, drop, truncate or grant
  anything. A table from which the owner has revoked UPDATE and DELETE is append-only for it too.
- `orders_reader` only reads. Processes use it on replicas.

No role has a right on the schema of another service, or can connect to another database. PUBLIC has
no right on the database.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extensions import encrypt_password, parse_dsn
from psycopg2.sql import SQL, Composable, Identifier, Literal

IDLE_IN_TRANSACTION_SECONDS: Final = 60
LOCK_SECONDS: Final = 10.0  # other sessions queue behind a session that waits for a lock
# With these limits, two services leave connections of a server with max_connections = 200 to the
# administrator and to standbys, even if the processes of one service open too many.
CONNECTIONS: Final = 80  # of a runtime role; of a reader too, mostly on other servers
OWNER_CONNECTIONS: Final = 16
_LOCK: Final = 0x6D69746F736973  # "mitosis": an advisory lock in the administrator's database
_MAINTENANCE: Final = ("postgres", "template1")  # databases in which PUBLIC may connect by default

# Of each table in a schema: the rights that a role has, and those that it should have. The runtime
# role gets the owner's rights to rows; the reader gets SELECT.
_RIGHTS: Final = """
SELECT c.oid::regclass::text,
       ARRAY(SELECT DISTINCT privilege_type
               FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner)))
              WHERE grantee = c.relowner AND privilege_type = ANY(%(allowed)s)
                AND (privilege_type = 'SELECT' OR c.relname <> 'django_migrations')
              ORDER BY 1) AS wanted,
       ARRAY(SELECT DISTINCT privilege_type FROM aclexplode(c.relacl)
              WHERE grantee = %(role)s::regrole ORDER BY 1) AS held
  FROM pg_class c
 WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """The passwords of a service's roles. Without a password, there is no reader."""

    runtime: str
    owner: str
    reader: str = ""

    @classmethod
    def same(cls, password: str) -> "Passwords":
        """One password for all roles, for tests."""
        return cls(runtime=password, owner=password, reader=password)


def owner_of(service: str) -> str:
    return f"{service}_owner"


def reader_of(service: str) -> str:
    return f"{service}_reader"


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
    admin_dsn: str,
    *,
    database: str,
    services: Mapping[str, Passwords],
    template: str | None = None,
    connections: int = CONNECTIONS,
) -> None:
    """Prepare `database` for `services`. Idempotent.

    A missing database is created, from `template` if given. The new database gets no grants and no
    role settings from the template, so both are made again. In a database that an earlier release
    provisioned, everything of the runtime role gets the owner as its new owner. Concurrent runs
    wait for each other. The administrator must be a superuser. Raises psycopg2.Error, such as
    LockNotAvailable if another transaction holds the tables for LOCK_SECONDS.
    """
    with _session(admin_dsn) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _close_maintenance_databases(cursor)
        for service, passwords in services.items():
            _make_role(cursor, service, passwords.runtime, path=service, limit=connections)
            owner = owner_of(service)
            _make_role(cursor, owner, passwords.owner, path=service, limit=OWNER_CONNECTIONS)
            if passwords.reader:
                reader = reader_of(service)
                _make_role(cursor, reader, passwords.reader, path=service, limit=connections)
                _run(cursor, "ALTER ROLE {} SET default_transaction_read_only = on", reader)
        _make_database(cursor, database, template)
        with _session(dsn_for(admin_dsn, database=database)) as inside:
            _run(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in services:
                _make_schema(inside, database, service)


def grant(cursor: Cursor, service: str) -> None:
    """Bring the rights of the service's roles to all tables, sequences and functions of its schema
    up to date. The cursor is the owner's or the administrator's."""
    _run(cursor, "REVOKE ALL ON ALL ROUTINES IN SCHEMA {} FROM PUBLIC", service)
    _run(cursor, "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {0} TO {0}", service)
    _run(cursor, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {0} TO {0}", service)
    allowed = {service: ["DELETE", "INSERT", "SELECT", "UPDATE"], reader_of(service): ["SELECT"]}
    for role in _existing(cursor, *allowed):
        values = {"role": role, "schema": service, "allowed": allowed[role]}
        cursor.execute(_RIGHTS, values)
        for table, wanted, held in cursor.fetchall():
            if wanted != held:
                # One transaction. Names from ::regclass are quoted already.
                statement = f"REVOKE ALL ON {table} FROM {{0}}"
                if wanted:
                    statement += f"; GRANT {', '.join(wanted)} ON {table} TO {{0}}"
                _run(cursor, statement, role)


def _make_role(cursor: Cursor, role: str, password: str, *, path: str, limit: int) -> None:
    if not _existing(cursor, role):
        _run(cursor, "CREATE ROLE {}", role)
    _run(
        cursor,
        "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        " CONNECTION LIMIT {}",
        role,
        Literal(limit),
    )
    # Encrypt the password here, so that no server log contains the plain password.
    secret = encrypt_password(password, role, cursor.connection, "scram-sha-256")
    _run(cursor, "ALTER ROLE {} PASSWORD {}", role, Literal(secret))
    # Without "$user" and public in the path, a name outside the service's schema is an error.
    _run(cursor, "ALTER ROLE {} SET search_path = {}", role, path)
    timeout = Literal(f"{IDLE_IN_TRANSACTION_SECONDS}s")
    _run(cursor, "ALTER ROLE {} SET idle_in_transaction_session_timeout = {}", role, timeout)
    # Sessions through a pooler may lose the options of the address (config/settings/data.py).
    _run(cursor, "ALTER ROLE {} SET default_transaction_isolation = 'read committed'", role)


def _close_maintenance_databases(cursor: Cursor) -> None:
    """Let only superusers, and roles that replicate, connect to PostgreSQL's own databases."""
    cursor.execute(
        "SELECT datname FROM pg_database WHERE datname = ANY(%s)"
        " AND has_database_privilege('public', oid, 'CONNECT')",
        [list(_MAINTENANCE)],
    )
    opened = [name for (name,) in cursor.fetchall()]
    if not opened:
        return
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolreplication AND NOT rolsuper")
    replicating = [role for (role,) in cursor.fetchall()]
    for database in opened:
        for role in replicating:
            _run(cursor, "GRANT CONNECT ON DATABASE {} TO {}", database, role)
        _run(cursor, "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", database)


def _make_database(cursor: Cursor, database: str, template: str | None) -> None:
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
    if not cursor.fetchone():
        if template is None:
            _run(cursor, "CREATE DATABASE {}", database)
        else:
            _run(cursor, "CREATE DATABASE {} TEMPLATE {}", database, template)
    _run(cursor, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _make_schema(cursor: Cursor, database: str, service: str) -> None:
    owner, reader = owner_of(service), reader_of(service)
    cursor.execute("BEGIN")  # running processes must never see a table without their rights
    # A change of owners locks all tables until COMMIT.
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS * 1000:.0f}ms"])
    _run(cursor, "CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", service, owner)
    _run(cursor, "REASSIGN OWNED BY {} TO {}", service, owner)  # of an earlier release
    _run(cursor, "REVOKE TEMPORARY ON DATABASE {} FROM {}", database, service)
    _run(cursor, "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database, owner)
    by_default = "ALTER DEFAULT PRIVILEGES FOR ROLE {0}"
    _run(cursor, f"{by_default} REVOKE EXECUTE ON ROUTINES FROM PUBLIC", owner)
    on_new = f"{by_default} IN SCHEMA {{1}} GRANT"
    _run(cursor, f"{on_new} EXECUTE ON ROUTINES TO {{1}}", owner, service)
    _run(cursor, f"{on_new} USAGE ON SEQUENCES TO {{1}}", owner, service)
    _run(cursor, f"{on_new} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {{1}}", owner, service)
    for role in _existing(cursor, service, reader):
        _run(cursor, "GRANT CONNECT ON DATABASE {} TO {}", database, role)
        _run(cursor, "REVOKE ALL ON SCHEMA {} FROM {}", service, role)
        _run(cursor, "GRANT USAGE ON SCHEMA {} TO {}", service, role)
        if role == reader:
            _run(cursor, f"{on_new} SELECT ON TABLES TO {{2}}", owner, service, reader)
    grant(cursor, service)
    cursor.execute("COMMIT")


def _existing(cursor: Cursor, *roles: str) -> list[str]:
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(roles)])
    return [role for (role,) in cursor.fetchall()]


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
