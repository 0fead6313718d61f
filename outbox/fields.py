"""Model fields for PostgreSQL's transaction ids, snapshots and lists of row ids."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class Xid8Field(models.Field):  # type: ignore[type-arg]
    """A 64-bit transaction id. These ids never wrap around. PostgreSQL assigns an id when a
    transaction first writes."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def to_python(self, value: Any) -> int | None:
        try:
            return None if value is None else int(value)
        except (TypeError, ValueError) as exc:
            raise ValidationError(f"{value!r:.100} isn't a transaction id") from exc

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None or hasattr(value, "as_sql") else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        # PostgreSQL can't cast an integer to xid8, but it can cast text to xid8.
        value = value if prepared else self.get_prep_value(value)
        return value if value is None or hasattr(value, "as_sql") else str(value)


class SnapshotField(models.Field):  # type: ignore[type-arg]
    """A saved `pg_current_snapshot()`, as its text ``xmin:xmax:xip,…``."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "pg_snapshot"


class RowIdsField(models.Field):  # type: ignore[type-arg]
    """A list of row ids. Django's ArrayField would require the app django.contrib.postgres."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint[]"
