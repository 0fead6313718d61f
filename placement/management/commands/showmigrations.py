from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import showmigrations
from django.db.migrations.loader import MigrationLoader

from ...homes import homes, primary


class Command(showmigrations.Command):
    """Shows each app's migrations on the app's primary. Otherwise it is Django's showmigrations."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"] or not homes():
            super().handle(*args, **options | {"database": options["database"] or "default"})
            return
        for label in options["app_label"] or sorted(MigrationLoader(None).migrated_apps):
            each = {"app_label": [label], "database": primary(label)}
            super().handle(*args, **options | each)
