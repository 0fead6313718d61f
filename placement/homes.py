"""The home of each app: the alias of the primary that has its tables."""

from django.conf import settings


def primary(label: str) -> str:
    """The alias of the primary that has this app's tables; contrib's are in `default`."""
    return str(settings.PLACEMENT_HOMES.get(label, "default"))


def primaries() -> tuple[str, ...]:
    """Every primary of this process, `default` first."""
    return tuple(dict.fromkeys(["default", *settings.PLACEMENT_HOMES.values()]))
