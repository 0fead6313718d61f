"""Checksums of rows, by which one service compares its copy of a table with the owner's.

A row's checksum is PostgreSQL's 64-bit hash of its columns, by the functions that assign rows to
hash partitions, so their values stay the same across upgrades. (They don't protect from an
attacker, and servers of different byte order compute different values.) A table is compared page by
page; a page is a range of keys, and the hash of the key assigns its rows to buckets. If both sides
have the same number of rows in a bucket and the same sum of their checksums, they hold the same
rows in it. The idea is the Merkle tree's (Dynamo's anti-entropy), with two levels.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connections, models, router

FIRST: Final = UUID(int=0)  # below every key of a table
BUCKETS: Final = 256  # per page

Stamp = tuple[int, str]  # a row's version and checksum
Sums = dict[int, tuple[int, str]]  # bucket → number of its rows and sum of their checksums

IN_PAGE = "id > %(after)s AND (%(upto)s::uuid IS NULL OR id <= %(upto)s::uuid)"
BUCKET = f"uuid_hash_extended(id, 0) & {BUCKETS - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksums:
    """Reads the checksums of one table whose key is a UUID, on the primary.

    `columns` are compared, in the same order on both sides; `version` must be one of them.
    `where` is an SQL condition that selects the rows to compare.
    """

    model: type[models.Model]
    columns: Sequence[str]
    where: str = "true"

    def end_of_page(self, *, after: UUID, rows: int) -> UUID | None:
        """The last key of a page of at most `rows` rows; None if there are no more."""
        found = self._fetch(
            f'SELECT max(id::text COLLATE "C") FROM (SELECT id FROM {self._table}'  # noqa: S608
            " WHERE id > %(after)s ORDER BY id LIMIT %(rows)s) AS page",
            {"after": str(after), "rows": rows},
        )
        return UUID(found[0][0]) if found[0][0] else None

    def sums(self, *, after: UUID, upto: UUID) -> Sums:
        """The sums of the page above `after` up to `upto`; buckets without rows are absent."""
        found = self._fetch(
            f"SELECT {BUCKET}, count(*), sum({self._checksum}) FROM {self._table}"  # noqa: S608
            f" WHERE {IN_PAGE} AND {self.where} GROUP BY 1",
            {"after": str(after), "upto": str(upto)},
        )
        return {bucket: (rows, str(sum_)) for bucket, rows, sum_ in found}

    def within(
        self, *, after: UUID, upto: UUID | None, buckets: Collection[int], limit: int
    ) -> dict[UUID, Stamp]:
        """At most `limit` rows of these buckets of a page; without `upto`, to the table's end."""
        return self._stamps(
            f"{IN_PAGE} AND {BUCKET} = ANY(%(buckets)s)",
            {
                "after": str(after),
                "upto": str(upto) if upto else None,
                "buckets": list(buckets),
                "limit": limit,
            },
        )

    def of(self, ids: Collection[UUID]) -> dict[UUID, Stamp]:
        """The stamps of these rows; a row that doesn't exist has none."""
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
        connection = connections[router.db_for_write(self.model)]
        return connection.ops.quote_name(self.model._meta.db_table)

    @property
    def _checksum(self) -> str:
        return f"hash_record_extended(ROW({', '.join(self.columns)}), 0)"
