from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from ...router import primaries, primary


class Command(migrate.Command):
    """Django's migrate, label by label, each at its home.

    The stock command records every app's migrations in every database, tables or not; after a
    split the service would then believe in tables that it doesn't have.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        # Django would ask the checks of the database None.
        chosen = options["database"]
        databases = [chosen] if chosen else list(primaries())
        kwargs: Any = super().get_check_kwargs(options)
        return {**kwargs, "databases": databases}

    def handle(self, *args: Any, **options: Any) -> None:
        for alias in primaries():
            _without_time_limit(alias)
        if label := options["app_label"]:
            options["database"] = options["database"] or primary(label)
            super().handle(*args, **options)
            return
        for label in sorted(MigrationLoader(None).migrated_apps):
            if options["database"] in (None, primary(label)):
                each = {"app_label": label, "database": primary(label), "run_syncdb": False}
                super().handle(*args, **options | each)


def _without_time_limit(alias: str) -> None:
    """A migration may take long, but must not queue long for a lock: all others queue behind."""
    connection = connections[alias]
    connection.settings_dict["OPTIONS"]["options"] = "-c statement_timeout=0 -c lock_timeout=10s"
    if not connection.in_atomic_block:
        connection.close()  # the next one obeys the new limits
