"""Checksums of rows: a service compares its copy of a table with the owner's table.

A row's checksum is a 64-bit hash of the row's columns. The hash functions are those of PostgreSQL's
hash partitions, so an upgrade doesn't change the values. (A checksum doesn't protect
from an attacker, and depends on the server's byte order.) A table is compared page by page. A page
is a range of keys, and the hash of a row's key assigns the row to a bucket. If both sides have the
same number of rows in a bucket and the same sum of checksums, the rows of the bucket are the same.
This is a Merkle tree with two levels; Dynamo compares replicas with such trees.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connections, models, router

FIRST: Final = UUID(int=0)  # below every key of a table
BUCKETS: Final = 256  # per page

Stamp = tuple[int, str]  # a row's version and checksum
Sums = dict[int, tuple[int, str]]  # bucket → the number of rows and the sum of checksums

IN_PAGE = "id > %(after)s AND (%(upto)s::uuid IS NULL OR id <= %(upto)s::uuid)"
BUCKET = f"uuid_hash_extended(id, 0) & {BUCKETS - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksums:
    """Reads, on the primary, the checksums of one table whose key is a UUID.

    Both sides list the same `columns` in the same order; `version` must be one of them.
    `where` is an SQL condition that selects the rows to compare.
    """

    model: type[models.Model]
    columns: Sequence[str]
    where: str = "true"

    def end_of_page(self, *, after: UUID, rows: int) -> UUID | None:
        """Return the last key of the next page of at most `rows` rows; None if no row is left."""
        found = self._fetch(
            f'SELECT max(id::text COLLATE "C") FROM (SELECT id FROM {self._table}'  # noqa: S608
            " WHERE id > %(after)s ORDER BY id LIMIT %(rows)s) AS page",
            {"after": str(after), "rows": rows},
        )
        return UUID(found[0][0]) if found[0][0] else None

    def sums(self, *, after: UUID, upto: UUID) -> Sums:
        """Return the sums of the page above `after` up to `upto`, without empty buckets."""
        found = self._fetch(
            f"SELECT {BUCKET}, count(*), sum({self._checksum}) FROM {self._table}"  # noqa: S608
            f" WHERE {IN_PAGE} AND {self.where} GROUP BY 1",
            {"after": str(after), "upto": str(upto)},
        )
        return {bucket: (rows, str(sum_)) for bucket, rows, sum_ in found}

    def within(
        self, *, after: UUID, upto: UUID | None, buckets: Collection[int], limit: int
    ) -> dict[UUID, Stamp]:
        """At most `limit` rows of these buckets. If `upto` is None, the page has no end."""
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
        """Return the stamps of these rows. A row that doesn't exist is absent."""
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
