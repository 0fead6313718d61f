"""A second table beside one that is read, and the moment in which it takes its place.

The shadow of `orders_orderview` is `orders_orderview_next`: the same columns, constraints and
indexes, each name with the suffix. After the swap every name is what Django's migrations expect.
What the swap doesn't carry over is what no migration made: grants to other roles, storage
parameters, database views (they go on reading the old table).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from ..errors import Unconfigured

SUFFIX = "_next"
OLD = "_old"
LONGEST_NAME = 63  # bytes that PostgreSQL keeps of one
EXAMPLES = 10  # keys of rows that differ, to name

_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid), contype = 'f' FROM pg_constraint
 WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'u', 'x', 'f') ORDER BY conname
"""
_INDEXES = """
SELECT c.relname, i.indisunique, pg_get_indexdef(c.oid)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = to_regclass(%s)
   AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid AND contype IN ('p', 'u', 'x'))
 ORDER BY c.relname
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
 WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How many rows aren't the same in both tables, and the keys of some."""

    table: str
    rows: int
    examples: tuple[str, ...]


class Shadow:
    """The shadow of one model's table. Methods that write want the caller's transaction."""

    def __init__(self, model: type[models.Model], connection: BaseDatabaseWrapper) -> None:
        self.live = model._meta.db_table
        self._key = connection.ops.quote_name(str(model._meta.pk.column))
        self._connection = connection
        self._quote = connection.ops.quote_name

    def shape(self) -> str:
        """Another one when a migration has changed the live table."""
        told = [self._rows(sql, self.live) for sql in (_COLUMNS, _CONSTRAINTS, _INDEXES)]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def make(self) -> None:
        """An empty shadow in the place of one that was left. Secondary indexes come later:
        that is several times faster. Nobody vacuums it while it fills, or would hold its lock
        when it is swapped."""
        live, shadow = self._quote(self.live), self._quote(self.live + SUFFIX)
        self.drop()
        copied = f"LIKE {live} INCLUDING ALL EXCLUDING INDEXES"
        statements = [f"CREATE TABLE {shadow} ({copied}) WITH (autovacuum_enabled = off)"]
        for name, definition, _ in self._rows(_CONSTRAINTS, self.live):
            statements.append(
                f"ALTER TABLE {shadow} ADD CONSTRAINT {self._named(name)} {definition}"
            )
        self._run(statements)

    def drop(self) -> None:
        """Without a trace of it, or of a table that a swap put aside."""
        self._run(
            f"DROP TABLE IF EXISTS {self._quote(self.live + suffix)}" for suffix in (SUFFIX, OLD)
        )

    def index(self) -> None:
        """The indexes that it still lacks, and statistics. Not in a transaction."""
        shadow = self._quote(self.live + SUFFIX)
        for name, unique, definition in self._rows(_INDEXES, self.live):
            kind = "UNIQUE INDEX" if unique else "INDEX"
            _, _, how = definition.partition(" USING ")
            self._run([f"CREATE {kind} IF NOT EXISTS {self._named(name)} ON {shadow} USING {how}"])
        self._run([f"VACUUM (ANALYZE) {shadow}"])

    def rows(self) -> int:
        """How many it has."""
        ((rows,),) = self._rows(f"SELECT count(*) FROM {self._quote(self.live + SUFFIX)}")  # noqa: S608
        return int(rows)

    def differences(self) -> Differences:
        """By a checksum of each table; only where they differ by a join, which names rows."""
        live, shadow = self._quote(self.live), self._quote(self.live + SUFFIX)
        checksum = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
        if self._rows(checksum.format(live)) == self._rows(checksum.format(shadow)):
            return Differences(table=self.live, rows=0, examples=())
        ((rows, examples),) = self._rows(
            f"SELECT count(*), (array_agg(key ORDER BY key))[1:{EXAMPLES}] FROM ("  # noqa: S608
            f"SELECT coalesce(l.{self._key}, n.{self._key})::text AS key "
            f"FROM {live} l FULL JOIN {shadow} n ON n.{self._key} = l.{self._key} "
            "WHERE l::text IS DISTINCT FROM n::text) AS differing"
        )
        return Differences(table=self.live, rows=rows, examples=tuple(examples or ()))

    def names(self) -> str:
        """Both tables."""
        return f"{self._quote(self.live)}, {self._quote(self.live + SUFFIX)}"

    def renames(self) -> Iterator[str]:
        """The statements by which it takes the live table's place and names; what was there is
        put aside, with `_old`."""
        live, old = self._quote(self.live), self._quote(self.live + OLD)
        constraints = self._rows(_CONSTRAINTS, self.live)
        foreign = [name for name, _, is_foreign in constraints if is_foreign]
        indexes = [name for name, _, is_foreign in constraints if not is_foreign]
        indexes += [name for name, _, _ in self._rows(_INDEXES, self.live)]
        yield f"ALTER TABLE {live} RENAME TO {old}"
        for name in indexes:
            yield f"ALTER INDEX {self._quote(name)} RENAME TO {self._quote(name + OLD)}"
        yield f"ALTER TABLE {self._quote(self.live + SUFFIX)} RENAME TO {live}"
        for name in indexes:
            yield f"ALTER INDEX {self._named(name)} RENAME TO {self._quote(name)}"
        for name in foreign:
            named = f"{self._named(name)} TO {self._quote(name)}"
            yield f"ALTER TABLE {live} RENAME CONSTRAINT {named}"
        yield f"ALTER TABLE {live} RESET (autovacuum_enabled)"

    def _named(self, name: str) -> str:
        if len((name + SUFFIX).encode()) > LONGEST_NAME:
            raise Unconfigured(f"{name} is too long a name to put {SUFFIX!r} behind it")
        return self._quote(name + SUFFIX)

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def _run(self, statements: Iterable[str]) -> None:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def swapping(shadows: Sequence[Shadow]) -> Iterator[str]:
    """The statements that swap all of them at once, for one round trip: while they run nobody
    reads. Waits for the lock as long as `lock_timeout` lets it, and new readers wait behind it.
    """
    tables = ", ".join(shadow.names() for shadow in shadows)
    yield f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
    for shadow in shadows:
        yield from shadow.renames()
