"""Empties the tables that a test wrote to, as their owner."""

from typing import Any

from django.core.management.commands import flush

from tests.support.databases import execute_as_owner

# `migrate` fills these tables, and no test changes them. Django's `flush` would fill them again,
# which takes longer than most tests.
KEPT = ("django_migrations", "django_content_type", "auth_permission")


class Command(flush.Command):
    """Skips tables of size 0, because TRUNCATE creates new files for each table and index."""

    def handle(self, **options: Any) -> None:
        found = execute_as_owner(
            options["database"],
            "SELECT oid::regclass FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace "
            "AND relname <> ALL(%s) AND pg_relation_size(oid) > 0",
            list(KEPT),
        )
        if written := ", ".join(name for (name,) in found):
            restart = "RESTART IDENTITY" if options.get("reset_sequences") else ""
            execute_as_owner(options["database"], f"TRUNCATE {written} {restart} CASCADE")
