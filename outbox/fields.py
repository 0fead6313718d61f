"""PostgreSQL's transaction ids, snapshots and lists of row ids as model fields."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class Xid8Field(models.Field):  # type: ignore[type-arg]
    """A 64-bit transaction id: never wraps, and orders by age of the transaction's first write."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        # There is no cast from integer to xid8; from text there is.
        return value if value is None or hasattr(value, "as_sql") else str(int(value))


class SnapshotField(models.Field):  # type: ignore[type-arg]
    """A saved `pg_current_snapshot()`, as its text ``xmin:xmax:xip,…``."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "pg_snapshot"


class RowIdsField(models.Field):  # type: ignore[type-arg]
    """A list of row ids.

    Django's ArrayField would make every project that uses us install django.contrib.postgres.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint[]"
