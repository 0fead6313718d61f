"""The database router: each app uses its primary, and reads in requests can use replicas.

No method returns None, because Django would then use `instance._state.db`: for a row that was read
from a replica, this is the alias of the replica.
"""

from typing import Any

from django.db import connections
from django.db.models import Model

from .homes import is_placed, needs_primary, primaries, primary, replicas, service_of
from .replicas import reading
from .served_by import record_read

__all__ = ["PlacementRouter", "primaries", "primary"]


class PlacementRouter:
    """Writes use the primary of the model's app. So do reads in a transaction, reads after a write
    of the same service, reads without a `Reading`, and reads of users, sessions and other contrib
    apps."""

    def db_for_read(self, model: type[Model], **_: Any) -> str:
        alias = self._alias_to_read(model)
        record_read(model, alias)
        return alias

    def _alias_to_read(self, model: type[Model]) -> str:
        label = model._meta.app_label
        home = primary(label)
        now = reading.current()
        service = service_of(label)
        if now is None or service not in replicas():
            return home
        if needs_primary(model):
            return home
        if connections[home].in_atomic_block:
            return home
        return now.replica_of(service) or home

    def db_for_write(self, model: type[Model], **_: Any) -> str:
        label = model._meta.app_label
        if (now := reading.current()) is not None and is_placed(label):
            now.written.add(service_of(label))
        record_read(model, primary(label))  # reads that must be current ask for this alias too
        return primary(label)

    def allow_relation(self, one: Model, other: Model, **_: Any) -> bool:
        """Compare the primaries, because rows may come from replicas."""
        return primary(one._meta.app_label) == primary(other._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return db == primary(app_label)
