"""Each row at its home.

The router answers all four questions, always. If it kept silent Django would fall back to
`instance._state.db`, which for a row read from a replica is the replica.
"""

from typing import Any

from django.conf import settings
from django.db.models import Model


def primary(label: str) -> str:
    """The alias of the primary that owns this app's tables; contrib's are in `default`."""
    return str(settings.PLACEMENT_HOMES.get(label, "default"))


def primaries() -> tuple[str, ...]:
    """Every primary of this process, `default` first."""
    return tuple(dict.fromkeys(["default", *settings.PLACEMENT_HOMES.values()]))


class PlacementRouter:
    """Reads and writes go to the primary of the model's app, inside a transaction or not."""

    def db_for_read(self, model: type[Model], **_: Any) -> str:
        return primary(model._meta.app_label)

    def db_for_write(self, model: type[Model], **_: Any) -> str:
        return primary(model._meta.app_label)

    def allow_relation(self, one: Model, other: Model, **_: Any) -> bool:
        """By home, not by where each was read: a row from a replica is still a neighbour."""
        return primary(one._meta.app_label) == primary(other._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return db == primary(app_label)
