"""Finds unapplied migrations on the primary of each app."""

from django.core.management.base import BaseCommand
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from ..homes import homes, primaries, primary


class ChecksPrimaries(BaseCommand):
    """The base of commands that warn of unapplied migrations.

    Django's own check reads only `default`, so it would report the migrations of every app that has
    another primary.
    """

    def check_migrations(self) -> None:
        if not homes():
            super().check_migrations()
            return
        unapplied = [label for alias in primaries() for label in _unapplied(alias)]
        if unapplied:
            labels = ", ".join(sorted(set(unapplied)))
            line = f"{len(unapplied)} unapplied migration(s) of {labels}: run manage.py migrate."
            self.stdout.write(self.style.NOTICE(line))


def _unapplied(alias: str) -> list[str]:
    """The app labels of the unapplied migrations of this primary, one for each migration."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [migration.app_label for migration, _ in plan if primary(migration.app_label) == alias]
