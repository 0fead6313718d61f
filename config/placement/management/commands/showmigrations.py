from argparse import ArgumentParser
from typing import Any

from django.core.management.commands import showmigrations
from django.db.migrations.loader import MigrationLoader

from config.placement.router import primary


class Command(showmigrations.Command):
    """Django's showmigrations, each app as its own home has it."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"]:
            return super().handle(*args, **options)
        labels = options["app_label"] or sorted(MigrationLoader(None).migrated_apps)
        for label in labels:
            each = {"app_label": [label], "database": primary(label)}
            super().handle(*args, **options | each)
        return None
