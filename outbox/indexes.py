"""An index whose name may be as long as PostgreSQL allows."""

from typing import Any

from django.db import models

MOST_BYTES = 63  # of a name in PostgreSQL


class LongNamed(models.Index):
    """An index like Django's, whose name can be longer than 30 characters.

    Django has that limit for other databases, and the names here start with the label of an app: a
    label could have 14 characters. In migrations it is a plain `models.Index`, so existing
    migrations stay as they are.
    """

    max_name_length = 255  # check outbox.E012 has PostgreSQL's limit, in one line for all names

    def deconstruct(self) -> Any:
        _, arguments, options = super().deconstruct()
        return "django.db.models.Index", arguments, options

    def __eq__(self, other: object) -> bool:
        """Whether it is the same index, also as the plain one of a migration."""
        return isinstance(other, models.Index) and self.deconstruct() == other.deconstruct()

    __hash__ = None  # type: ignore[assignment] # as Django's indexes
