"""The home of each app, and the settings that say which servers a project has.

In a project with one database, all apps have the home `default`, and no setting is needed. An app
with another home is listed in PLACEMENT_HOMES.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

# The name of the service to which all apps belong that PLACEMENT_HOMES doesn't list.
OTHERS: Final = "default"
LAG_SECONDS: Final = 1.0


def homes() -> Mapping[str, str]:
    """The listed apps and their homes."""
    return _mapping("PLACEMENT_HOMES")


def primary(label: str) -> str:
    """The alias of the primary that has this app's tables; `default` for apps that aren't listed.

    The name of a service has the same answer.
    """
    return str(homes().get(label, "default"))


def primaries() -> tuple[str, ...]:
    """The aliases of all primaries of this process, `default` first."""
    return tuple(dict.fromkeys(["default", *homes().values()]))


def service_of(label: str) -> str:
    """The service to which the app belongs: the first listed app with the same home.

    A query may join the tables of all apps of a service, so they share a replica and a position in
    the token.
    """
    listed = homes()
    if label not in listed:
        return OTHERS
    return next(first for first, home in listed.items() if home == listed[label])


def services() -> Sequence[str]:
    """All services, also those of other deployments: a token has a part for each service."""
    default = tuple(dict.fromkeys((OTHERS, *map(service_of, homes()))))
    named: Sequence[str] = getattr(settings, "PLACEMENT_SERVICES", default)
    return named


def is_placed(label: str) -> bool:
    """Whether a token has a position for the app's tables."""
    return label in homes() or OTHERS in services()


def replicas() -> Mapping[str, Sequence[str]]:
    """The aliases of the replicas of each service that has any."""
    return _mapping("PLACEMENT_REPLICAS")


def _mapping(setting: str) -> Mapping[str, Any]:
    given = getattr(settings, setting, {})
    if not isinstance(given, Mapping):  # also if no check runs, no row goes to another database
        raise ImproperlyConfigured(f"{setting} is {given!r:.100}; expected a dict")
    return given


def lag_seconds() -> float:
    """The largest accepted lag of a replica."""
    return float(getattr(settings, "PLACEMENT_REPLICA_LAG_SECONDS", LAG_SECONDS))


def needs_primary(model: type[Model]) -> bool:
    """Whether the model is never read from a replica.

    A replica may not have a new session, user or API key yet. Their clients have no token, or
    another one, and would be refused or logged out.
    """
    meta = model._meta
    config = apps.app_configs.get(meta.app_label)
    return (
        (config is not None and config.name.startswith("django.contrib."))
        or meta.label == settings.AUTH_USER_MODEL
        or meta.app_label in getattr(settings, "PLACEMENT_PRIMARY_APPS", ())
    )


def has_own_roles() -> bool:
    """Whether each service has a schema and roles with its name, which `provision` makes."""
    return hasattr(settings, "PLACEMENT_OWNERS")
