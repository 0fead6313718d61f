from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from ...router import primaries, primary


class Command(migrate.Command):
    """Migrates each app on the app's primary. Otherwise it is Django's migrate.

    Django's own command records the migrations of all apps in every database, even of apps without
    tables there. After a split, a database would have records of tables that don't exist.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        # Without this method, the checks would get the database None.
        chosen = options["database"]
        databases = [chosen] if chosen else list(primaries())
        kwargs: Any = super().get_check_kwargs(options)
        return {**kwargs, "databases": databases}

    def handle(self, *args: Any, **options: Any) -> None:
        for alias in primaries():
            _set_time_limits(alias)
        if label := options["app_label"]:
            options["database"] = options["database"] or primary(label)
            super().handle(*args, **options)
            return
        for label in sorted(MigrationLoader(None).migrated_apps):
            if options["database"] in (None, primary(label)):
                each = {"app_label": label, "database": primary(label), "run_syncdb": False}
                super().handle(*args, **options | each)


def _set_time_limits(alias: str) -> None:
    """Set a time limit only for locks: 10 s. Other sessions queue behind a session that waits."""
    connection = connections[alias]
    connection.settings_dict["OPTIONS"]["options"] = "-c statement_timeout=0 -c lock_timeout=10s"
    if not connection.in_atomic_block:
        connection.close()  # the next connection has the new limits
