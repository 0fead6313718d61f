"""Checksums of rows, by which two services find out whether one's copy is the other's truth.

A row's checksum is PostgreSQL's 64-bit hash of its columns: the family of functions that places rows
in hash partitions, and so keeps its values through upgrades (it is no guard against an enemy, and
servers of different byte order disagree). A bucket is a run of keys with the number of its rows and the sum of their
checksums; two sides that agree on a bucket hold the same rows in it. The idea is the Merkle tree's
(Dynamo's anti-entropy), two levels of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections, models, router

FIRST = UUID(int=0)  # above which every key lies: no table has this one

Stamp = tuple[int, str]  # a row's version and checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The rows above the bucket before, up to the key `last`, which is included."""

    last: UUID
    rows: int
    sum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksums:
    """Reads the checksums of one table with a UUID as its key, on the primary.

    `columns` are what is compared, in the same order on both sides; `version` is one of them.
    `where` is a condition in SQL on rows that count.
    """

    model: type[models.Model]
    columns: Sequence[str]
    where: str = "true"

    def buckets(self, *, after: UUID, rows: int, size: int) -> list[Bucket]:
        """The next `rows` rows above a key, in buckets of `size`; none at the end."""
        found = self._fetch(
            f'SELECT max(id::text COLLATE "C"), count(*), sum(checksum) FROM ('  # noqa: S608
            f"SELECT id, {self._checksum} AS checksum,"
            " (row_number() OVER (ORDER BY id) - 1) / %(size)s AS bucket"
            f" FROM (SELECT * FROM {self._table} WHERE id > %(after)s AND {self.where}"
            " ORDER BY id LIMIT %(rows)s) AS page) AS numbered GROUP BY bucket ORDER BY bucket",
            {"after": str(after), "rows": rows, "size": size},
        )
        return [Bucket(last=UUID(last), rows=rows, sum=int(sum_)) for last, rows, sum_ in found]

    def within(self, lasts: Sequence[UUID], *, after: UUID) -> list[Bucket]:
        """The same buckets as another table has them: those that end with these keys."""
        # width_bucket wants where each bucket begins: with the key that follows a last one.
        begins = [str(UUID(int=last.int + 1)) for last in lasts[:-1]]
        found = self._fetch(
            f"SELECT width_bucket(id, %(begins)s::uuid[]), count(*), sum({self._checksum})"  # noqa: S608
            f" FROM {self._table} WHERE id > %(after)s AND id <= %(last)s AND {self.where}"
            " GROUP BY 1",
            {"begins": begins, "after": str(after), "last": str(lasts[-1])},
        )
        held = {number: (rows, int(sum_)) for number, rows, sum_ in found}
        return [
            Bucket(last=last, rows=rows, sum=sum_)
            for number, last in enumerate(lasts)
            for rows, sum_ in [held.get(number, (0, 0))]
        ]

    def between(self, after: UUID, upto: UUID | None, *, limit: int) -> dict[UUID, Stamp]:
        """Up to `limit` rows above one key and up to another, or to the end."""
        return self._stamps(
            "id > %(after)s AND (%(upto)s::uuid IS NULL OR id <= %(upto)s::uuid)",
            {"after": str(after), "upto": str(upto) if upto else None, "limit": limit},
        )

    def of(self, ids: Collection[UUID]) -> dict[UUID, Stamp]:
        """These rows, as far as there are any."""
        return self._stamps(
            "id = ANY(%(ids)s::uuid[])", {"ids": [str(id_) for id_ in ids], "limit": len(ids)}
        )

    def _stamps(self, condition: str, values: Mapping[str, Any]) -> dict[UUID, Stamp]:
        found = self._fetch(
            f"SELECT id, version, {self._checksum} FROM {self._table}"  # noqa: S608
            f" WHERE {condition} AND {self.where} ORDER BY id LIMIT %(limit)s",
            values,
        )
        return {id_: (version, str(checksum)) for id_, version, checksum in found}

    def _fetch(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with connections[router.db_for_write(self.model)].cursor() as cursor:
            cursor.execute(statement, dict(values))
            return list(cursor.fetchall())

    @property
    def _table(self) -> str:
        return connections[router.db_for_write(self.model)].ops.quote_name(
            self.model._meta.db_table
        )

    @property
    def _checksum(self) -> str:
        return f"hash_record_extended(ROW({', '.join(self.columns)}), 0)"
