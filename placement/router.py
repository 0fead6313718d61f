"""Each row at its home; reads of a request from a replica that has what the client wrote.

The router answers all four questions, always. If it kept silent Django would fall back to
`instance._state.db`, which for a row read from a replica is the replica.
"""

from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Model

from .homes import primaries, primary
from .replicas import reading

__all__ = ["PlacementRouter", "primaries", "primary"]


class PlacementRouter:
    """Writes go to the primary of the model's app. So do reads inside a transaction, after a
    write of the same service, without a `Reading`, and of what no service owns: contrib's
    sessions and log-ins would be lost on a replica that is a moment behind."""

    def db_for_read(self, model: type[Model], **_: Any) -> str:
        label = model._meta.app_label
        home = primary(label)
        now = reading.current()
        if now is None or label not in settings.PLACEMENT_REPLICAS:
            return home
        if connections[home].in_atomic_block:
            return home
        return now.replica_of(label) or home

    def db_for_write(self, model: type[Model], **_: Any) -> str:
        label = model._meta.app_label
        if (now := reading.current()) is not None and label in settings.PLACEMENT_HOMES:
            now.written.add(label)
        return primary(label)

    def allow_relation(self, one: Model, other: Model, **_: Any) -> bool:
        """By home, not by where each was read: a row from a replica is still a neighbour."""
        return primary(one._meta.app_label) == primary(other._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return db == primary(app_label)
