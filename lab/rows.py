"""Users as the rows of one table, at their current version."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from django.db import connections, models, router
from uuid_utils.compat import uuid7

from .users import PAGE, Answer, State, UserExists, UserNotFound, Users, Versioned


class UserRows(models.QuerySet["UserRow"]):
    """The statements on a table of users. Each is atomic by itself."""

    def page(self, *, after: str, limit: int) -> Self:
        return self.filter(id__gt=after).order_by("id")[:limit]

    def insert(self, user_id: str, name: str) -> bool:
        """Insert version 1; False if the id is in use. Waits for a concurrent insert to commit."""
        return bool(
            self._write(
                "INSERT INTO {table} (id, name, version) VALUES (%s, %s, 1)"
                " ON CONFLICT DO NOTHING RETURNING version",
                [user_id, name],
            )
        )

    def rename(self, user_id: str, name: str) -> int | None:
        """Rename the user; returns the new version, None for an unknown user."""
        rows = self._write(
            "UPDATE {table} SET name = %s, version = version + 1 WHERE id = %s RETURNING version",
            [name, user_id],
        )
        return rows[0][0] if rows else None

    def show(self, users: Iterable[Versioned]) -> None:
        """Store these versions of users, in order, except where the table has a later version."""
        latest = {user.id: user for user in users}.values()
        self._write(
            "INSERT INTO {table} AS shown (id, name, version)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::int[])"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version"
            " WHERE shown.version < excluded.version RETURNING version",
            [[u.id for u in latest], [u.name for u in latest], [u.version for u in latest]],
        )

    def _write(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        connection = connections[router.db_for_write(self.model)]
        table = connection.ops.quote_name(self.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(statement.format(table=table), values)
            return list(cursor)


class UserRow(models.Model):
    id = models.TextField(primary_key=True)
    name = models.TextField()
    version = models.PositiveIntegerField()

    objects = UserRows.as_manager()

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.id} at version {self.version}"

    def state(self) -> State:
        return State(self.id, self.name, self.version)


class RowUsers(Users):
    """The users in the table `rows`, without any technique: all reads are on the primary."""

    rows: ClassVar[type[UserRow]]

    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        return [Answer.of(row) for row in self._readable().page(after=after, limit=limit)]

    def get(self, user_id: str) -> Answer:
        if (row := self._readable().filter(id=user_id).first()) is None:
            raise UserNotFound(user_id)
        return Answer.of(row)

    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        user_id = user_id or str(uuid7())
        if not self.rows.objects.insert(user_id, name):
            raise UserExists(user_id)
        return Answer.of(self.rows(id=user_id, name=name, version=1))

    def update(self, user_id: str, name: str) -> Answer:
        if (version := self.rows.objects.rename(user_id, name)) is None:
            raise UserNotFound(user_id)
        return Answer.of(self.rows(id=user_id, name=name, version=version))

    def _readable(self) -> UserRows:
        return self.rows.objects.using(router.db_for_write(self.rows))
