from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import sqlmigrate

from ...homes import primary


class Command(sqlmigrate.Command):
    """Prints the SQL for the app's primary. On another alias, a migration has no operations."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def execute(self, *args: Any, **options: Any) -> str | None:
        options["database"] = options["database"] or primary(options["app_label"])
        return super().execute(*args, **options)
