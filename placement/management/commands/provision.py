from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from ...drivers import driver
from ...homes import has_own_roles, homes, replicas
from ...provision import (
    CONNECTIONS,
    LOCK_SECONDS,
    OWNER_CONNECTIONS,
    Passwords,
    available_connections,
    owner_of,
    provision,
    reader_of,
)


class Command(BaseCommand):
    help = "Create the roles, schemas and grants of this process's services (idempotent)."
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        if not (homes() and has_own_roles()):
            raise CommandError(
                "no app has a schema and roles of its own: PLACEMENT_HOMES and PLACEMENT_OWNERS "
                "are not set"
            )
        if not getattr(settings, "PLACEMENT_ADMIN_DATABASE_URL", ""):
            raise CommandError(
                "PLACEMENT_ADMIN_DATABASE_URL is not set; "
                "expected postgresql://postgres:password@host:5432/postgres"
            )
        limit = getattr(settings, "PLACEMENT_CONNECTIONS", CONNECTIONS)
        opened: set[str] = set()
        available, most = 0, 0
        for service, alias in homes().items():
            home, passwords = connections.settings[alias], _passwords(service, alias)
            most += OWNER_CONNECTIONS + limit * (2 if passwords.reader else 1)
            try:
                opened |= provision(
                    settings.PLACEMENT_ADMIN_DATABASE_URL,
                    database=home["NAME"],
                    services={service: passwords},
                    connections=limit,
                )
                available = available_connections(settings.PLACEMENT_ADMIN_DATABASE_URL)
            except driver.errors.LockNotAvailable as exc:
                raise CommandError(
                    f"{service}: another transaction held the tables for {LOCK_SECONDS:.0f} s: "
                    "stop backups and the service's processes, then run this again"
                ) from exc
            except driver.Error as exc:
                raise CommandError(f"{service}: {str(exc).strip()}") from exc
            self.stdout.write(f"{service}: roles and schema are ready in {home['NAME']}")
        for name in sorted(opened):
            self.stderr.write(
                f"warning: every role can also connect to the database {name}; unless it is needed,"
                f' run REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC'
            )
        if most > available:
            self.stderr.write(
                f"warning: the roles may open {most} connections, and the server has {available};"
                " one service could use up those of the others: raise max_connections, or set"
                " PLACEMENT_CONNECTIONS to a smaller number"
            )


def _passwords(service: str, alias: str) -> Passwords:
    """The passwords in this process's addresses. Raises CommandError if an address is missing or
    names another role."""
    home = connections.settings[alias]
    if home["USER"] != service:
        raise CommandError(f"{service.upper()}_DATABASE_URL must name the role {service}")
    owner = getattr(settings, "PLACEMENT_OWNERS", {}).get(alias, {"USER": ""})
    if owner["USER"] != owner_of(service):
        raise CommandError(
            f"{service.upper()}_OWNER_DATABASE_URL must name the role {owner_of(service)}, "
            "which owns the schema"
        )
    servers = (connections.settings[each] for each in replicas().get(service, ()))
    readers = (each["PASSWORD"] for each in servers if each["USER"] == reader_of(service))
    return Passwords(runtime=home["PASSWORD"], owner=owner["PASSWORD"], reader=next(readers, ""))
