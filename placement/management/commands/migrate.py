from contextlib import ExitStack
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from ...homes import homes, primaries, primary
from ...owner import as_owner
from ...provision import grant


class Command(migrate.Command):
    """Migrates each app on the app's primary. Otherwise it is Django's migrate.

    Django's own command records the migrations of all apps in every database, even of apps without
    tables there. After a split, a database would have records of tables that don't exist.

    The permissions of all apps are on the primary of `auth`. If no app has another home, it is
    Django's migrate.
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
        if not homes():
            super().handle(*args, **options | {"database": options["database"] or "default"})
            return
        with ExitStack() as roles:
            is_dry = options["plan"] or options["check_unapplied"]
            for alias in primaries():
                if not is_dry:
                    roles.enter_context(as_owner(alias))
                _set_time_limits(alias)
            self._migrate(*args, is_dry=is_dry, **options)

    def _migrate(self, *args: Any, is_dry: bool, **options: Any) -> None:
        chosen = options["database"]
        if label := options["app_label"]:
            super().handle(*args, **options | {"database": chosen or primary(label)})
        else:
            for label in sorted(MigrationLoader(None).migrated_apps):
                if chosen in (None, primary(label)):
                    each = {"app_label": label, "database": primary(label), "run_syncdb": False}
                    super().handle(*args, **options | each)
        if is_dry:
            return
        if chosen in (None, primary("auth")):
            _create_permissions(verbosity=options["verbosity"])
        for service, alias in homes().items():
            if alias in getattr(settings, "PLACEMENT_OWNERS", {}):
                _grant(service, alias)


def _grant(service: str, alias: str) -> None:
    """Give the runtime role its rights to new tables: fewer to those that are append-only."""
    connections[alias].ensure_connection()
    with connections[alias].connection.cursor() as cursor:
        grant(cursor, service)


def _create_permissions(*, verbosity: int) -> None:
    """Create the content types and permissions of apps that aren't on the primary of `auth`.

    Django creates them only for apps whose migrations the same database records. Without them, only
    superusers could open the admin pages of such an app.
    """
    home = primary("auth")
    if "auth_permission" in connections[home].introspection.table_names():
        for config in apps.get_app_configs():
            if primary(config.label) != home:
                create_permissions(config, verbosity=verbosity, using=home)


def _set_time_limits(alias: str) -> None:
    """Set a time limit only for locks: 10 s. Other sessions queue behind a session that waits."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    options = connection.settings_dict["OPTIONS"]
    if not connection.in_atomic_block:
        connection.close()  # the next connection has the new limits, …
        options.pop("pool", None)  # … which the sessions of a pool would not have
    # The last value of a parameter wins.
    options["options"] = f"{options.get('options', '')} -c statement_timeout=0 -c lock_timeout=10s"
