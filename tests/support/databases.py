"""Creates test databases: provisioned as in production, migrated once, copied for each worker.

Django's own test databases need CREATEDB and have no schemas. Django would also treat the two
aliases of the monolith (same server, same name) as one database.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import django
import psycopg2
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg2.extensions import make_dsn, parse_dsn

from placement import provision as provisioning
from placement.management.commands import migrate
from placement.provision import Passwords, dsn_for, owner_of, provision

KEPT_TEMPLATES: Final = 8
_LOCK: Final = 0x74656D706C617465  # "template"


def name_for(worker: str) -> str:
    """A name with the worker and the pid, by which a later run finds databases of a crashed run."""
    return f"test_{settings.SERVICE}_{worker}_{os.getpid()}"


def create(admin_dsn: str, *, name: str, password: str) -> None:
    """Create the database `name` for this shape, as a copy of the migrated template."""
    services = dict.fromkeys(settings.PLACEMENT_HOMES, Passwords.same(password))
    with _locked(admin_dsn) as cursor:
        _drop_abandoned(cursor)
        template = f"tpl_{settings.SERVICE}_{_fingerprint()}"
        if not _exists(cursor, template):
            _make_template(cursor, admin_dsn, template, services)
        provision(admin_dsn, database=name, services=services, template=template)


def drop(admin_dsn: str, *, name: str) -> None:
    with _session(admin_dsn) as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def point_connections_at(admin_dsn: str, *, name: str, password: str) -> None:
    """Make every alias of this process use the database, in every thread."""
    parts = parse_dsn(admin_dsn)
    close_connections()
    for one in _settings():
        one.update(NAME=name, PASSWORD=password, HOST=parts["host"], PORT=parts["port"])


@contextmanager
def connections_kept() -> Iterator[None]:
    """Restores the settings of all connections at the end."""
    before = [(one, dict(one)) for one in _settings()]
    try:
        yield
    finally:
        close_connections()
        for one, kept in before:
            one.update(kept)


def _settings() -> list[dict[str, Any]]:
    """Those of every alias, and of the owners of the schemas."""
    return [*(connections.settings[a] for a in connections), *settings.PLACEMENT_OWNERS.values()]


def execute_as_owner(alias: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement as the owner of the alias's schema, in autocommit mode; return its rows.

    The role of the tests, as in production, may neither create nor truncate tables. The session is
    kept, because a new one would take longer than most statements.
    """
    owner = settings.PLACEMENT_OWNERS[alias]
    try:
        return _executed(_session_of(owner), statement, values)
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        if not _session_of(owner).closed:
            raise
        # The server was restarted, or the database was created again.
        _OWNERS.clear()
        return _executed(_session_of(owner), statement, values)


_OWNERS: dict[str, Any] = {}  # the sessions, by address


def _session_of(owner: dict[str, Any]) -> Any:
    names = {"user": "USER", "dbname": "NAME", "host": "HOST", "port": "PORT"}
    dsn = make_dsn(**{key: owner[name] for key, name in names.items()})
    if dsn not in _OWNERS:
        _OWNERS[dsn] = psycopg2.connect(dsn, password=owner["PASSWORD"])
        _OWNERS[dsn].autocommit = True
    return _OWNERS[dsn]


def _executed(session: Any, statement: str, values: Any) -> list[tuple[Any, ...]]:
    with session.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def close_connections() -> None:
    for alias in connections:
        connections[alias].close()


def urls(admin_dsn: str, *, name: str, password: str, services: Any) -> dict[str, str]:
    """The environment variables with which a process uses this database."""
    return {
        f"{role.upper()}_DATABASE_URL": dsn_for(
            admin_dsn, database=name, role=role, password=password
        )
        for service in services
        for role in (service, owner_of(service))
    }


def _make_template(
    cursor: Any, admin_dsn: str, template: str, services: dict[str, Passwords]
) -> None:
    # The template has another name while it is built: the final name means that it is complete.
    unfinished = f"{template}_x"
    cursor.execute(f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)')
    provision(admin_dsn, database=unfinished, services=services)
    password = next(iter(services.values())).runtime
    point_connections_at(admin_dsn, name=unfinished, password=password)
    options = {alias: dict(connections.settings[alias]["OPTIONS"]) for alias in connections}
    call_command("migrate", verbosity=0, interactive=False)
    close_connections()
    for alias in connections:
        connections.settings[alias]["OPTIONS"].update(options[alias])
    cursor.execute(f'ALTER DATABASE "{unfinished}" RENAME TO "{template}"')
    _drop_old_templates(cursor)


def _fingerprint() -> str:
    """A hash of everything that a migrated database depends on."""
    digest = hashlib.sha256(f"{settings.SERVICE} {django.VERSION}".encode())
    files = [Path(module) for module in (__file__, provisioning.__file__, migrate.__file__)]
    for config in apps.get_app_configs():
        files += sorted(Path(config.path, "migrations").glob("*.py"))
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _exists(cursor: Any, name: str) -> bool:
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return cursor.fetchone() is not None


def _drop_old_templates(cursor: Any) -> None:
    cursor.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, 'tpl_')"
        " ORDER BY oid DESC OFFSET %s",
        [KEPT_TEMPLATES],
    )
    for (name,) in cursor.fetchall():
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _drop_abandoned(cursor: Any) -> None:
    cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, 'test_')")
    for (name,) in cursor.fetchall():
        owner = name.rpartition("_")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def _locked(admin_dsn: str) -> Iterator[Any]:
    with _session(admin_dsn) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        yield cursor


@contextmanager
def _session(dsn: str) -> Iterator[Any]:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
