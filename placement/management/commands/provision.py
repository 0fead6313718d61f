from typing import Any

import psycopg2
from django.core.management.base import BaseCommand, CommandError
from psycopg2.extensions import parse_dsn

from config.environ import environment

from ...provision import provision


class Command(BaseCommand):
    help = "Make the roles, schemas and grants of this process's services (idempotent)."
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        env = environment()
        if not env.admin_database_url:
            raise CommandError(
                "ADMIN_DATABASE_URL is not set; "
                "it wants postgresql://postgres:password@host:5432/postgres"
            )
        for service, url in env.database_urls.items():
            parts = parse_dsn(url)
            if parts.get("user") != service:
                raise CommandError(f"{service.upper()}_DATABASE_URL must name the role {service}")
            try:
                provision(
                    env.admin_database_url,
                    database=parts["dbname"],
                    services={service: parts.get("password", "")},
                )
            except psycopg2.Error as exc:
                raise CommandError(f"{service}: {str(exc).strip()}") from exc
            self.stdout.write(f"{service}: role and schema ready in {parts['dbname']}")
