from typing import Any

import psycopg2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from ...provision import provision


class Command(BaseCommand):
    help = "Create the roles, schemas and grants of this process's services (idempotent)."
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        if not settings.PLACEMENT_ADMIN_DATABASE_URL:
            raise CommandError(
                "PLACEMENT_ADMIN_DATABASE_URL is not set; "
                "expected postgresql://postgres:password@host:5432/postgres"
            )
        for service, alias in settings.PLACEMENT_HOMES.items():
            home = connections.settings[alias]
            if home["USER"] != service:
                raise CommandError(f"{service.upper()}_DATABASE_URL must name the role {service}")
            try:
                provision(
                    settings.PLACEMENT_ADMIN_DATABASE_URL,
                    database=home["NAME"],
                    services={service: home["PASSWORD"]},
                )
            except psycopg2.Error as exc:
                raise CommandError(f"{service}: {str(exc).strip()}") from exc
            self.stdout.write(f"{service}: the role and the schema are ready in {home['NAME']}")
