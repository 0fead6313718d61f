"""Creates roles, schemas and grants for production, the stack and the tests.

Each service has a schema with its name, and three login roles:

- `orders_owner` owns the schema and everything in it. Migrations, rebuilds, restamps and erasures
  log in as this role, and no process that stays running.
- `orders` is the runtime role. It reads and writes rows, and can't create, drop, truncate or grant
  anything. A table from which the owner has revoked UPDATE and DELETE is append-only for it too.
- `orders_reader` only reads, and only the tables of the service's app, because replicas serve no
  others. With a key of `django_session` it could act as staff. Processes use it on replicas.

No role has a right on the schema of another service. PUBLIC has no right on the database, and may
not connect to PostgreSQL's own databases. `provision` names all others to which PUBLIC may connect.

The runtime role gets SELECT and INSERT on a new table. `grant` adds the other rights, so a table
that a migration makes append-only is never anything else.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from . import drivers
from .drivers import SQL, Composable, Identifier, Literal, parse_dsn

SETTINGS: Final = {  # of each role
    "idle_in_transaction_session_timeout": "60s",
    # Sessions through a pooler may lose the options of the address (config/settings/data.py).
    "default_transaction_isolation": "read committed",
}
LOCK_SECONDS: Final = 10.0  # other sessions queue behind a session that waits for a lock
# Even if an intruder opens all connections of one service, the other service has its own. Replicas
# have the same roles, and each server counts its own connections, so an intruder can also use those
# of a reader on the primary. Of max_connections = 400, 2 * (80 + 80 + 16) leave the rest to the
# administrator and to standbys.
CONNECTIONS: Final = 80  # of a runtime role; of a reader too
OWNER_CONNECTIONS: Final = 16
_ALL_ROWS: Final = (["DELETE", "INSERT", "SELECT", "UPDATE"], "")  # in the tables with any prefix
_LOCK: Final = 0x6D69746F736973  # "mitosis": an advisory lock in the administrator's database
_MAINTENANCE: Final = ("postgres", "template1")  # databases in which PUBLIC may connect by default

# Of each table in a schema: the rights that a role has, and those that it should have. The runtime
# role gets the owner's rights to rows; the reader gets SELECT on the tables of the service's app.
_RIGHTS: Final = """
SELECT c.oid::regclass::text,
       ARRAY(SELECT DISTINCT privilege_type
               FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner)))
              WHERE grantee = c.relowner AND privilege_type = ANY(%(allowed)s)
                AND starts_with(c.relname, %(prefix)s)
                AND (privilege_type = 'SELECT' OR c.relname <> 'django_migrations')
              ORDER BY 1) AS wanted,
       ARRAY(SELECT DISTINCT privilege_type FROM aclexplode(c.relacl)
              WHERE grantee = %(role)s::regrole ORDER BY 1) AS held
  FROM pg_class c
 WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
"""
# The tables to which the role has not all rights that it should have. A right counts however the
# role has it: as the owner, as a member of a role, or as a superuser.
_UNGRANTED: Final = f"""
SELECT name FROM ({_RIGHTS}) AS each (name, wanted, held)
 WHERE EXISTS (SELECT FROM unnest(wanted) AS needed
                WHERE NOT has_table_privilege(%(role)s::name, name, needed))
   AND EXISTS (SELECT FROM pg_class
                WHERE oid = name::regclass AND relname = ANY(%(tables)s::text[]))
 ORDER BY name
"""  # noqa: S608 - only constants
_OPEN: Final = """
SELECT datname FROM pg_database
 WHERE datallowconn AND datname <> %s AND has_database_privilege('public', oid, 'CONNECT')
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
) -> set[str]:
    """Prepare `database` for `services`. Idempotent. Returns the names of the other databases to
    which every role of the server may connect.

    A missing database is created, from `template` if given. The new database gets no grants and no
    role settings from the template, so both are made again. A role loses all other settings and
    memberships. In a database that an earlier release provisioned, everything of the runtime role
    gets the owner as its new owner. Concurrent runs wait for each other. The administrator must be
    a superuser. Raises errors of the driver, such as LockNotAvailable if another transaction holds
    the tables for LOCK_SECONDS.
    """
    with _session(admin_dsn) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _close_maintenance_databases(cursor)
        for service, passwords in services.items():
            # Without "$user" and public, a name outside the service's schema is an error.
            settings = SETTINGS | {"search_path": service}
            _make_role(cursor, service, passwords.runtime, settings, limit=connections)
            owner = owner_of(service)
            _make_role(cursor, owner, passwords.owner, settings, limit=OWNER_CONNECTIONS)
            if passwords.reader:
                settings |= {"default_transaction_read_only": "on"}
                reader = reader_of(service)
                _make_role(cursor, reader, passwords.reader, settings, limit=connections)
        _make_database(cursor, database, template)
        with _session(dsn_for(admin_dsn, database=database)) as inside:
            _run(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in services:
                _make_schema(inside, database, service)
        cursor.execute(_OPEN, [database])
        return {name for (name,) in cursor.fetchall()}


def available_connections(admin_dsn: str) -> int:
    """The number of connections that the server has for other roles than superusers."""
    with _session(admin_dsn) as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
        return int(cursor.fetchone()[0])


def grant(cursor: Any, service: str) -> None:
    """Bring the rights of the service's roles to all tables, sequences and functions of its schema
    up to date. The cursor is the owner's or the administrator's."""
    _run(cursor, "REVOKE ALL ON ALL ROUTINES IN SCHEMA {} FROM PUBLIC", service)
    _run(cursor, "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {0} TO {0}", service)
    _run(cursor, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {0} TO {0}", service)
    allowed = {
        service: _ALL_ROWS,
        reader_of(service): (["SELECT"], f"{service}_"),
    }
    for role in _existing(cursor, *allowed):
        cursor.execute(_RIGHTS, _values(service, role, *allowed[role]))
        for table, wanted, held in cursor.fetchall():
            if wanted != held:
                # One transaction. Names from ::regclass are quoted already.
                statement = f"REVOKE ALL ON {table} FROM {{0}}"
                if wanted:
                    statement += f"; GRANT {', '.join(wanted)} ON {table} TO {{0}}"
                _run(cursor, statement, role)


def ungranted(cursor: Any, service: str, tables: Sequence[str]) -> list[str]:
    """Those of the tables to which the runtime role doesn't have all its rights yet: new tables,
    between their migration and `grant`. The cursor may be that of any role."""
    values = _values(service, service, *_ALL_ROWS) | {"tables": list(tables)}
    cursor.execute(_UNGRANTED, values)
    return [table for (table,) in cursor.fetchall()]


def _values(service: str, role: str, rights: list[str], prefix: str) -> dict[str, Any]:
    return {"role": role, "schema": service, "allowed": rights, "prefix": prefix}


def _make_role(
    cursor: Any, role: str, password: str, settings: Mapping[str, str], *, limit: int
) -> None:
    if not _existing(cursor, role):
        _run(cursor, "CREATE ROLE {}", role)
    cursor.execute("BEGIN")  # a session that starts now must have all settings
    _clear(cursor, role)
    _run(
        cursor,
        "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        " CONNECTION LIMIT {}",
        role,
        Literal(limit),
    )
    # Encrypt the password here, so that no server log contains the plain password.
    secret = drivers.encrypted(password, role, cursor.connection)
    _run(cursor, "ALTER ROLE {} PASSWORD {}", role, Literal(secret))
    for name, value in settings.items():
        _run(cursor, "ALTER ROLE {} SET {} = {}", role, name, Literal(value))
    cursor.execute("COMMIT")


def _clear(cursor: Any, role: str) -> None:
    """Remove the settings of the role, which may change them itself, and its memberships: before
    PostgreSQL 16, a role may make others its members."""
    _run(cursor, "ALTER ROLE {} RESET ALL", role)
    cursor.execute(
        "SELECT datname FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
        " WHERE setrole = %s::regrole",
        [role],
    )
    for (database,) in cursor.fetchall():
        _run(cursor, "ALTER ROLE {} IN DATABASE {} RESET ALL", role, database)
    cursor.execute(
        "SELECT pg_get_userbyid(roleid), pg_get_userbyid(grantor) FROM pg_auth_members"
        " WHERE member = %s::regrole",
        [role],
    )
    for granted, grantor in cursor.fetchall():
        _run(cursor, "REVOKE {} FROM {} GRANTED BY {} CASCADE", granted, role, grantor)


def _close_maintenance_databases(cursor: Any) -> None:
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


def _make_database(cursor: Any, database: str, template: str | None) -> None:
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
    if not cursor.fetchone():
        if template is None:
            _run(cursor, "CREATE DATABASE {}", database)
        else:
            _run(cursor, "CREATE DATABASE {} TEMPLATE {}", database, template)
    _run(cursor, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _make_schema(cursor: Any, database: str, service: str) -> None:
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
    for role in _existing(cursor, service, reader):
        _run(cursor, "GRANT CONNECT ON DATABASE {} TO {}", database, role)
        _run(cursor, "REVOKE ALL ON SCHEMA {} FROM {}", service, role)
        _run(cursor, "GRANT USAGE ON SCHEMA {} TO {}", service, role)
        no_more = f"{by_default} IN SCHEMA {{1}} REVOKE ALL ON TABLES FROM {{2}}"
        _run(cursor, no_more, owner, service, role)  # of an earlier release
    _run(cursor, f"{on_new} SELECT, INSERT ON TABLES TO {{1}}", owner, service)
    grant(cursor, service)
    cursor.execute("COMMIT")


def _existing(cursor: Any, *roles: str) -> list[str]:
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(roles)])
    return [role for (role,) in cursor.fetchall()]


def _run(cursor: Any, statement: str, *names: str | Composable) -> None:
    """Execute a statement. Names become quoted identifiers; a Composable is inserted unchanged."""
    parts = [name if isinstance(name, Composable) else Identifier(name) for name in names]
    cursor.execute(SQL(statement).format(*parts))


@contextmanager
def _session(dsn: str) -> Iterator[Any]:
    # In autocommit mode, because CREATE DATABASE can't run in a transaction.
    with closing(drivers.connect(dsn)) as connection, connection.cursor() as cursor:
        yield cursor
