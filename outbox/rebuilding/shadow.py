"""The shadow of a table in use, and the statements that swap the two tables.

The shadow of `orders_orderview` is `orders_orderview_next`, with the same columns, constraints,
indexes and grants. Constraints and indexes have the suffix too. The swap restores the names that
Django's migrations expect. A swap loses everything else that no migration made: storage parameters,
and database views (these still read the old table).
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
LONGEST_NAME = 63  # bytes; PostgreSQL truncates longer names
EXAMPLES = 10  # how many keys of differing rows are reported

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
_GRANTS = """
SELECT string_agg(privilege_type, ', '),
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
  FROM pg_class, aclexplode(relacl)
 WHERE pg_class.oid = to_regclass(%s) AND grantee <> relowner GROUP BY grantee
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The number of rows that differ between the two tables, and the keys of some of these rows."""

    table: str
    rows: int
    examples: tuple[str, ...]


class Shadow:
    """The shadow of one model's table. Methods that write run in the caller's transaction."""

    def __init__(self, model: type[models.Model], connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._quote = connection.ops.quote_name
        self._table = model._meta.db_table
        self._key = self._quote(str(model._meta.pk.column))
        self.live = self._quote(self._table)
        self.shadow = self._quote(self._table + SUFFIX)
        self._old = self._quote(self._table + OLD)

    def shape(self) -> str:
        """A hash of the live table's columns, constraints and indexes."""
        definitions = [self._rows(sql, self._table) for sql in (_COLUMNS, _CONSTRAINTS, _INDEXES)]
        return hashlib.sha256(repr(definitions).encode()).hexdigest()

    def create(self) -> None:
        """Drop an earlier shadow and create an empty shadow. Without secondary indexes, it fills
        several times faster. Autovacuum is off, because its lock could delay the swap."""
        self.drop()
        copied = f"LIKE {self.live} INCLUDING ALL EXCLUDING INDEXES"
        statements = [f"CREATE TABLE {self.shadow} ({copied}) WITH (autovacuum_enabled = off)"]
        for name, definition, _ in self._rows(_CONSTRAINTS, self._table):
            added = f"CONSTRAINT {self._shadow_name(name)} {definition}"
            statements.append(f"ALTER TABLE {self.shadow} ADD {added}")
        for rights, role in self._rows(_GRANTS, self._table):
            statements.append(f"GRANT {rights} ON {self.shadow} TO {role}")
        self._run(statements)

    def drop(self) -> None:
        """Drop the shadow, and the old table that remains after a swap."""
        self._run(f"DROP TABLE IF EXISTS {table}" for table in (self.shadow, self._old))

    def index(self) -> None:
        """Create missing indexes and analyze the shadow. Must not run in a transaction."""
        for name, unique, definition in self._rows(_INDEXES, self._table):
            kind = "UNIQUE INDEX" if unique else "INDEX"
            index = f"{kind} IF NOT EXISTS {self._shadow_name(name)}"
            _, _, how = definition.partition(" USING ")
            self._run([f"CREATE {index} ON {self.shadow} USING {how}"])
        self._run([f"VACUUM (ANALYZE) {self.shadow}"])

    def count(self) -> int:
        """The number of rows in the shadow."""
        ((rows,),) = self._rows(f"SELECT count(*) FROM {self.shadow}")  # noqa: S608
        return int(rows)

    def differences(self) -> Differences:
        """Compare the tables' checksums. If they differ, join the tables to find the rows."""
        checksum = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
        if self._rows(checksum.format(self.live)) == self._rows(checksum.format(self.shadow)):
            return Differences(table=self._table, rows=0, examples=())
        ((rows, examples),) = self._rows(
            f"SELECT count(*), (array_agg(key ORDER BY key))[1:{EXAMPLES}] FROM ("  # noqa: S608
            f"SELECT coalesce(l.{self._key}, n.{self._key})::text AS key "
            f"FROM {self.live} l FULL JOIN {self.shadow} n ON n.{self._key} = l.{self._key} "
            "WHERE l::text IS DISTINCT FROM n::text) AS differing"
        )
        return Differences(table=self._table, rows=rows, examples=tuple(examples or ()))

    def rename_statements(self) -> Iterator[str]:
        """The statements that add `_old` to the live table's names, and give the former names to
        the shadow."""
        constraints = self._rows(_CONSTRAINTS, self._table)
        foreign = [name for name, _, is_foreign in constraints if is_foreign]
        indexes = [name for name, _, is_foreign in constraints if not is_foreign]
        indexes += [name for name, _, _ in self._rows(_INDEXES, self._table)]
        yield f"ALTER TABLE {self.live} RENAME TO {self._old}"
        for name in indexes:
            yield f"ALTER INDEX {self._quote(name)} RENAME TO {self._quote(name + OLD)}"
        yield f"ALTER TABLE {self.shadow} RENAME TO {self.live}"
        for name in indexes:
            yield f"ALTER INDEX {self._shadow_name(name)} RENAME TO {self._quote(name)}"
        for name in foreign:
            renamed = f"{self._shadow_name(name)} TO {self._quote(name)}"
            yield f"ALTER TABLE {self.live} RENAME CONSTRAINT {renamed}"
        yield f"ALTER TABLE {self.live} RESET (autovacuum_enabled)"

    def _shadow_name(self, name: str) -> str:
        if len((name + SUFFIX).encode()) > LONGEST_NAME:
            raise Unconfigured(f"{name}{SUFFIX} is longer than PostgreSQL allows; shorten {name}")
        return self._quote(name + SUFFIX)

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def _run(self, statements: Iterable[str]) -> None:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def swap_statements(shadows: Sequence[Shadow]) -> Iterator[str]:
    """The statements that swap all shadows. They block readers, so send them in one round trip.
    They wait for the tables' lock for at most `lock_timeout`; new readers wait behind them."""
    tables = ", ".join(f"{one.live}, {one.shadow}" for one in shadows)
    yield f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
    for shadow in shadows:
        yield from shadow.rename_statements()
