"""Ticks: saved snapshots that cut the outbox into batches, as PgQ does.

Ids are given at INSERT and rows appear at COMMIT, so neither an id nor a transaction id can
be a cursor. A tick is a saved `pg_current_snapshot()`. A batch is what its tick sees and the
one before doesn't, ordered by row id: no gap, no reversal, and an open transaction holds back
nothing but its own rows.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..prepared import Prepared
from ..tables import Tables
from . import statements as sql

Row = tuple[int, int, str]  # row id, partition, event

# Sees no transaction: the first batch holds whatever was recorded before any relay ran.
# 3 is PostgreSQL's first ordinary transaction id.
GENESIS = "3:3:"

# Chunks of one batch. Larger ones hold the stream server for longer than a few milliseconds.
CHUNK_ROWS = 1000

# A tick of so many transactions is most likely one chunk, which comes along with it.
FEW_TRANSACTIONS = 500


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick, and the id and the snapshot of its predecessor (the genesis tick has none)."""

    id: int
    prev: int | None
    snapshot: str
    previous: str
    skip: frozenset[int] = frozenset()  # rows that were sent before their ticks were lost
    few: list[Row] | None = field(default=None, compare=False)  # all its rows, if they came with it


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Ticks:
    """Makes and reads the ticks of one service, on a connection that nothing else uses."""

    def __init__(
        self,
        tables: Tables,
        connection: BaseDatabaseWrapper,
        *,
        clock_ms: Callable[[], int] = clock_ms,
    ) -> None:
        self._connection = connection
        self._clock_ms = clock_ms
        quote = connection.ops.quote_name
        self._names = {
            "tick": quote(tables.tick._meta.db_table),
            "event": quote(tables.event._meta.db_table),
            "state": quote(tables.state._meta.db_table),
        }
        self._make = Prepared(self._named(sql.MAKE), types=sql.MAKE_TYPES)
        self._rows_sql = self._named(sql.OPEN_ROWS)

    def make(self) -> Tick | None:
        """Close a batch if anything waits for one: the new tick, else None. Few rows come along.

        One autocommit statement, so that the id and the snapshot rise together; `prev` is
        unique, so of two makers one wins and the other reads what it made. Durable when this
        returns: the connection has synchronous_commit on.
        """
        with self._connection.cursor() as cursor:
            try:
                self._make.execute(
                    cursor,
                    {"clock": self._clock_ms(), "few": FEW_TRANSACTIONS, "chunk": CHUNK_ROWS},
                )
            except IntegrityError:
                return None
            found = cursor.fetchall()
        if not found:
            return None
        tick_id, prev, snapshot, previous, width, *_ = found[0]
        rows = [row[5:] for row in found if row[5] is not None]
        is_all = width <= FEW_TRANSACTIONS and len(rows) < CHUNK_ROWS
        return Tick(tick_id, prev, snapshot, previous, few=rows if is_all else None)

    def first(self) -> int:
        """The oldest tick: everything after it can still be published again."""
        [(oldest,)] = self._ask(sql.FIRST)
        if oldest is None:
            with self._connection.cursor() as cursor:
                cursor.execute(self._named(sql.GENESIS), [GENESIS])
            [(oldest,)] = self._ask(sql.FIRST)
        return int(oldest)

    def floor(self) -> int:
        found = self._ask(sql.FLOOR)
        return int(found[0][0]) if found else 0

    def last(self) -> int:
        """The newest tick."""
        [(newest,)] = self._ask(sql.LAST)
        return int(newest)

    def bridge(self, lost: int) -> int | None:
        """The predecessor of the tick that replaced a lost one; None if none has replaced it."""
        found = self._ask(sql.RESUMED_FROM, lost)
        prev = found[0][0] if found else None
        return prev if prev is not None and prev < lost else None

    def resume(self, *, above: int, skip: Iterable[int] = ()) -> None:
        """Make the next tick with an id above a lost one; `skip` lists rows that were sent."""
        last = self.last()
        tick_id = max(last + 1, above + 1, self._clock_ms())
        with self._connection.cursor() as cursor, suppress(IntegrityError):
            cursor.execute(self._named(sql.RESUME), [tick_id, last, list(skip)])

    def unseen(self) -> list[tuple[int, str]]:
        """The rows that the last tick doesn't see: id and event."""
        return self._ask(sql.UNSEEN, self.last())

    def seen_by(self, snapshot: str) -> set[int]:
        return {row for (row,) in self._ask(sql.SEEN, snapshot)}

    def has_foreign_xids(self) -> bool:
        """Whether rows or ticks hold transaction ids that this server hasn't issued yet."""
        [(found,)] = self._ask(sql.FOREIGN_XIDS)
        return bool(found)

    def get(self, tick_id: int) -> Tick | None:
        return self._read(sql.BY_ID, tick_id)

    def after(self, tick_id: int) -> Tick | None:
        """The tick that follows, if it was made."""
        return self._read(sql.BY_PREVIOUS, tick_id)

    def _read(self, statement: str, tick_id: int) -> Tick | None:
        for id_, prev, snapshot, previous, skip in self._ask(statement, tick_id):
            return Tick(id_, prev, snapshot, previous, frozenset(skip or ()))
        return None

    def _named(self, statement: str) -> str:
        return statement.format(**self._names)

    def _ask(self, statement: str, *values: str | int) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(self._named(statement), values or None)
            return list(cursor.fetchall())

    @contextmanager
    def rows(self, tick: Tick, *, after: int) -> Iterator[Iterator[list[Row]]]:
        """The tick's rows with an id above `after`, in chunks of CHUNK_ROWS, in id order; the
        last chunk is the one that isn't full.

        They came with the tick, or come from one server-side cursor under one snapshot that was
        taken after the tick's commit: the batch is the same for whoever reads it, and pruning
        doesn't tear it.
        """
        if tick.few is not None and not after:
            yield iter([tick.few])
            return
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(
                    self._rows_sql,
                    {
                        "previous": tick.previous,
                        "snapshot": tick.snapshot,
                        "after": after,
                        "chunk": CHUNK_ROWS,
                    },
                )
                yield _chunks(cursor)
            finally:
                if not self._connection.connection.closed:
                    cursor.execute("ROLLBACK")


def _chunks(cursor: Any) -> Iterator[list[Row]]:
    while True:
        chunk = cursor.fetchall()
        yield chunk
        if len(chunk) < CHUNK_ROWS:
            return
        cursor.execute(f"FETCH {CHUNK_ROWS} FROM batch")
