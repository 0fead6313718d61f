"""The home of each app: the alias of the primary that has the app's tables."""

from django.conf import settings


def primary(label: str) -> str:
    """The alias of the primary that has this app's tables; `default` for Django's contrib apps."""
    return str(settings.PLACEMENT_HOMES.get(label, "default"))


def primaries() -> tuple[str, ...]:
    """The aliases of all primaries of this process, `default` first."""
    return tuple(dict.fromkeys(["default", *settings.PLACEMENT_HOMES.values()]))
