"""System checks: a deployment doesn't start if it would write rows to the wrong database."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections
from django.db.models import Model
from django.utils.module_loading import import_string

from .events import HAS_OUTBOX
from .homes import (
    OTHERS,
    has_own_roles,
    homes,
    lag_seconds,
    primary,
    replicas,
    service_of,
)
from .provision import owner_of, reader_of

ROUTER: Final = f"{__package__}.router.PlacementRouter"
MIDDLEWARE: Final = f"{__package__}.replicas.middleware.ConsistencyToken"

# Everything with which this session's role could change a row of the table, or get the right to,
# also after SET ROLE to a role of which it is a member. The owner of a table, and the owner of its
# schema, can drop it; the owner of a table can grant rights. Before PostgreSQL 16, a role that may
# make roles can make itself a member of any but a superuser. A program or a file of the server can
# do what a superuser can.
_RIGHTS_TO_CHANGE: Final = """
SELECT what
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON pg_has_role(r.oid, 'MEMBER')
 CROSS JOIN LATERAL (VALUES
         (1, 'UPDATE', has_any_column_privilege(r.oid, c.oid, 'UPDATE')),
         (2, 'DELETE', has_table_privilege(r.oid, c.oid, 'DELETE')),
         (3, 'TRUNCATE', has_table_privilege(r.oid, c.oid, 'TRUNCATE')),
         (4, 'TRIGGER', has_table_privilege(r.oid, c.oid, 'TRIGGER')),
         (5, 'it owns the table', r.oid = c.relowner),
         (6, 'it owns the schema', r.oid = n.nspowner),
         (7, 'it may make roles',
             r.rolcreaterole AND current_setting('server_version_num')::int < 160000),
         (8, 'it may run programs or write files on the server',
             r.rolname IN ('pg_execute_server_program', 'pg_write_server_files'))
       ) AS each (place, what, held)
 WHERE c.oid = to_regclass(%s) AND held
 GROUP BY place, what ORDER BY place
"""


@register
def placement_is_coherent(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check the settings, without a query. A project that has only the ring needs none of them."""
    if not (homes() or replicas()):
        return []
    errors: list[CheckMessage] = []
    first = next(iter(apps.get_app_configs()))
    if homes() and first.label != "placement":
        errors.append(
            Error(
                f"placement must be listed first in INSTALLED_APPS, not {first.name}.",
                hint="Otherwise Django's own migrate runs, and a later split is impossible.",
                id="placement.E001",
            )
        )
    if ROUTER not in settings.DATABASE_ROUTERS:
        errors.append(
            Error(
                "PlacementRouter is missing in DATABASE_ROUTERS.",
                hint=f"Set DATABASE_ROUTERS = [{ROUTER!r}].",
                id="placement.E002",
            )
        )
    if HAS_OUTBOX and (renderer := getattr(settings, "PLACEMENT_PROBLEM_RENDERER", "")):
        try:
            import_string(renderer)
        except ImportError as exc:
            errors.append(Error(f"PLACEMENT_PROBLEM_RENDERER: {exc}.", id="placement.E008"))
    for service, alias in homes().items():
        errors += _service_errors(service, alias)
    return [*errors, *_replica_messages()]


def _service_errors(service: str, alias: str) -> list[CheckMessage]:
    if service not in apps.app_configs:
        return [
            Error(f"{service} has a database, but isn't in INSTALLED_APPS.", id="placement.E003")
        ]
    if alias not in connections.settings:
        return [
            Error(f"{service} has no database: there is no alias {alias!r}.", id="placement.E004")
        ]
    if not has_own_roles():
        return []
    if (role := connections.settings[alias]["USER"]) != service:
        return [
            Error(
                f"{service} would connect as {role!r}.",
                hint=f"{service.upper()}_DATABASE_URL must name the role {service}.",
                id="placement.E005",
            )
        ]
    return [*_owner_errors(service, alias), *_reader_warnings(service)]


def _owner_errors(service: str, alias: str) -> list[CheckMessage]:
    owner = getattr(settings, "PLACEMENT_OWNERS", {}).get(alias)
    if owner is None or owner["USER"] == owner_of(service):
        return []
    return [
        Error(
            f"Migrations of {service} would run as {owner['USER']!r}.",
            hint=f"{service.upper()}_OWNER_DATABASE_URL must name the role {owner_of(service)}.",
            id="placement.E009",
        )
    ]


def _reader_warnings(service: str) -> list[CheckMessage]:
    used = {
        connections.settings[alias]["USER"]
        for alias in replicas().get(service, ())
        if alias in connections.settings
    }
    return [
        CheckWarning(
            f"Replicas of {service} are read as {role!r}, which may also write.",
            hint=f"In {service.upper()}_REPLICA_URLS, name the role {reader_of(service)}.",
            id="placement.W002",
        )
        for role in sorted(used - {reader_of(service)})
    ]


def _replica_messages() -> Iterator[CheckMessage]:
    for service, aliases in replicas().items():
        if service not in (OTHERS, *homes()) or service_of(service) != service:
            known = dict.fromkeys([OTHERS, *map(service_of, homes())])
            yield Error(
                f"PLACEMENT_REPLICAS has replicas of {service!r}, which is no service.",
                hint=f"The services are {', '.join(known)}.",
                id="placement.E010",
            )
            continue
        if isinstance(aliases, str):
            yield Error(
                f"PLACEMENT_REPLICAS[{service!r}] is the text {aliases!r}.",
                hint=f"Expected a list of aliases, such as [{aliases!r}].",
                id="placement.E011",
            )
            continue
        for alias in (primary(service), *aliases):
            yield from _server_errors(service, alias)
    if replicas() and MIDDLEWARE not in settings.MIDDLEWARE:
        yield CheckWarning(
            "ConsistencyToken is missing in MIDDLEWARE, so no request reads a replica.",
            hint=f"Add {MIDDLEWARE!r} before every middleware that uses the database.",
            id="placement.W004",
        )
    try:
        lag_seconds()
    except (TypeError, ValueError):
        given = settings.PLACEMENT_REPLICA_LAG_SECONDS
        yield Error(
            f"PLACEMENT_REPLICA_LAG_SECONDS is {given!r}; expected seconds, such as 1.0.",
            id="placement.E013",
        )


def _server_errors(service: str, alias: str) -> Iterator[CheckMessage]:
    if alias not in connections.settings:
        yield Error(
            f"{service} can't use the server {alias!r}: DATABASES has no such alias.",
            hint="Add the alias to DATABASES, or correct PLACEMENT_REPLICAS.",
            id="placement.E012",
        )
    elif connections[alias].vendor != "postgresql":
        yield Error(
            f"{alias!r} is a server of {connections[alias].vendor}.",
            hint="Replicas need PostgreSQL: remove the service from PLACEMENT_REPLICAS.",
            id="placement.E014",
        )
    elif connections.settings[alias]["ATOMIC_REQUESTS"] and alias == primary(service):
        yield CheckWarning(
            f"ATOMIC_REQUESTS is set for {alias!r}, so no request reads a replica.",
            hint="A transaction reads the primary: remove ATOMIC_REQUESTS, and use atomic() in the "
            "views that write.",
            id="placement.W005",
        )


@register(Tags.database)
def schemas_are_separate(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Query the servers: check the schema and the rights of each role, if services have any."""
    messages: list[CheckMessage] = []
    for service, alias in homes().items() if has_own_roles() else ():
        if alias in (databases or ()):
            messages += _schema_messages(service, alias)
    return messages


@register(Tags.database)
def a_pooler_limits_the_time(
    *, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Query the servers through the pooler, if the setting PLACEMENT_POOLER says that there is one:
    a process can't set the time limit of statements itself there."""
    if not getattr(settings, "PLACEMENT_POOLER", False):
        return []
    return [
        CheckWarning(
            f"Statements on {alias!r} have no time limit: statement_timeout is 0.",
            hint="Let the pooler set it, in PgBouncer with "
            "connect_query='SET statement_timeout = 10000'.",
            id="placement.W006",
        )
        for alias in databases or ()
        if connections[alias].vendor == "postgresql" and not _has_time_limit(alias)
    ]


def _has_time_limit(alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        (limit,) = cursor.fetchone()
    return bool(limit != "0")


def _schema_messages(service: str, alias: str) -> list[CheckMessage]:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT current_schema(), rolsuper OR rolbypassrls, pg_has_role(nspowner, 'MEMBER')"
            " FROM pg_roles LEFT JOIN pg_namespace ON nspname = current_schema()"
            " WHERE rolname = current_user"
        )
        schema, is_powerful, owns = cursor.fetchone()
    messages: list[CheckMessage] = []
    if schema != service:
        messages.append(
            Error(
                f"The current schema of {service}'s role is {schema!r}, not {service!r}.",
                hint="Run `manage.py provision` with PLACEMENT_ADMIN_DATABASE_URL.",
                id="placement.E006",
            )
        )
    if is_powerful:
        messages.append(
            CheckWarning(f"{service}'s role can read every schema.", id="placement.W001")
        )
    elif owns:
        messages.append(
            CheckWarning(
                f"{service}'s role owns its schema, so every process can drop its tables.",
                hint="Run `manage.py provision` with PLACEMENT_ADMIN_DATABASE_URL.",
                id="placement.W003",
            )
        )
    return messages


def append_only(
    model: type[Model], databases: Sequence[str] | None, *, code: str
) -> list[CheckMessage]:
    """For a service's own check: an error if the runtime role has a right with which it could
    change or delete a row of the model, or could give itself such a right."""
    service, table = model._meta.app_label, model._meta.db_table
    if (alias := primary(service)) not in (databases or ()):
        return []
    with connections[alias].cursor() as cursor:
        cursor.execute(_RIGHTS_TO_CHANGE, [table])
        held = [right for (right,) in cursor.fetchall()]
    if not held:
        return []
    return [
        Error(
            f"The role of {service} has rights to change rows of {table}: {', '.join(held)}.",
            hint="Run `manage.py provision` with PLACEMENT_ADMIN_DATABASE_URL; it leaves SELECT "
            "and INSERT to the runtime role.",
            id=code,
        )
    ]
