"""Empties the tables that a test wrote to."""

from typing import Any

from django.core.management.commands import flush
from django.db import connections

# `migrate` fills these tables, and no test changes them. Django's `flush` would fill them again,
# which takes longer than most tests.
KEPT = ("django_migrations", "django_content_type", "auth_permission")


class Command(flush.Command):
    """Skips tables of size 0, because TRUNCATE creates new files for each table and index."""

    def handle(self, **options: Any) -> None:
        with connections[options["database"]].cursor() as cursor:
            cursor.execute(
                "SELECT oid::regclass FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace "
                "AND relname <> ALL(%s) AND pg_relation_size(oid) > 0",
                [list(KEPT)],
            )
            if written := ", ".join(name for (name,) in cursor.fetchall()):
                restart = "RESTART IDENTITY" if options.get("reset_sequences") else ""
                cursor.execute(f"TRUNCATE {written} {restart} CASCADE")
