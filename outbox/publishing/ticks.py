"""Ticks: saved snapshots that divide the outbox into batches, as in PgQ.

A row gets its id at INSERT and becomes visible at COMMIT, so neither a row id nor a transaction id
can be a cursor. A tick is a saved `pg_current_snapshot()`. A batch is the rows that its tick
sees and the previous tick doesn't, ordered by row id. No row is skipped or reordered, and an open
transaction delays only its own rows (docs/adr/0001-ticks.md).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import drivers
from ..prepared import Prepared
from ..tables import Tables
from . import statements as sql

Row = tuple[int, int, str]  # row id, partition, event

# This snapshot sees no transaction, so the first batch has all rows from before the first relay.
# 3 is PostgreSQL's first ordinary transaction id.
GENESIS = "3:3:"

# A larger chunk would block the stream server for more than a few milliseconds.
CHUNK_ROWS = 1000

# If a tick has at most this many transactions, one query creates the tick and reads its rows.
FEW_TRANSACTIONS = 500


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick, with the id and the snapshot of its predecessor (the genesis tick has none)."""

    id: int
    prev: int | None
    snapshot: str
    previous: str
    skip: frozenset[int] = frozenset()  # rows that were sent before their ticks were lost
    preloaded: list[Row] | None = field(default=None, compare=False)  # its rows, if few


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Ticks:
    """Creates and reads the ticks of one service, on a connection that nothing else uses."""

    def __init__(
        self,
        tables: Tables,
        connection: BaseDatabaseWrapper,
        *,
        clock_ms: Callable[[], int] = clock_ms,
    ) -> None:
        self._connection = connection
        self._clock_ms = clock_ms
        self._names = {
            "tick": tables.quoted(tables.tick),
            "event": tables.quoted(tables.event),
            "state": tables.quoted(tables.state),
        }
        self._make = Prepared(self._with_names(sql.MAKE), types=sql.MAKE_TYPES)
        self._rows_sql = self._with_names(sql.OPEN_ROWS)

    def make(self) -> Tick | None:
        """Create a tick if any row waits for one, else return None. If the tick has few rows, the
        query also returns them.

        The query is one autocommit statement, so that id and snapshot increase together. `prev` is
        unique: of two relays that create a tick, one fails and later reads the other relay's tick.
        The tick is durable when `make` returns, because the connection has synchronous_commit on.
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
        is_complete = width <= FEW_TRANSACTIONS and len(rows) < CHUNK_ROWS
        return Tick(tick_id, prev, snapshot, previous, preloaded=rows if is_complete else None)

    def first(self) -> int:
        """The id of the oldest tick, created if missing. Rows after this tick can be sent again."""
        [(oldest,)] = self._query(sql.FIRST)
        if oldest is None:
            with self._connection.cursor() as cursor:
                cursor.execute(self._with_names(sql.GENESIS), [GENESIS])
            [(oldest,)] = self._query(sql.FIRST)
        return int(oldest)

    def floor(self) -> int:
        found = self._query(sql.FLOOR)
        return int(found[0][0]) if found else 0

    def last(self) -> int:
        """The id of the newest tick."""
        [(newest,)] = self._query(sql.LAST)
        return int(newest)

    def resumed_from(self, lost: int) -> int | None:
        """The predecessor of the tick that replaced the tick `lost`, or None if there is none."""
        found = self._query(sql.RESUMED_FROM, lost)
        prev = found[0][0] if found else None
        return prev if prev is not None and prev < lost else None

    def resume(self, *, above: int, skip: Iterable[int] = ()) -> None:
        """Create the next tick, with an id above `above`. `skip` lists rows that were sent."""
        last = self.last()
        tick_id = max(last + 1, above + 1, self._clock_ms())
        with self._connection.cursor() as cursor, suppress(IntegrityError):
            cursor.execute(self._with_names(sql.RESUME), [tick_id, last, list(skip)])

    def newest_restored_row(self) -> int:
        """In a restored outbox, the highest id that can be the id of a restored row."""
        [(newest,)] = self._query(sql.NEWEST_RESTORED_ROW)
        return int(newest)

    def has_foreign_xids(self) -> bool:
        """Whether rows or ticks contain transaction ids that this server hasn't issued yet."""
        [(found,)] = self._query(sql.FOREIGN_XIDS)
        return bool(found)

    def get(self, tick_id: int) -> Tick | None:
        return self._fetch(sql.BY_ID, tick_id)

    def after(self, tick_id: int) -> Tick | None:
        """The tick that follows the tick `tick_id`, or None."""
        return self._fetch(sql.BY_PREVIOUS, tick_id)

    def _fetch(self, statement: str, tick_id: int) -> Tick | None:
        for id_, prev, snapshot, previous, skip in self._query(statement, tick_id):
            return Tick(id_, prev, snapshot, previous, frozenset(skip or ()))
        return None

    def _with_names(self, statement: str) -> str:
        return statement.format(**self._names)

    def _query(self, statement: str, *values: str | int) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(self._with_names(statement), values or None)
            return list(cursor.fetchall())

    @contextmanager
    def rows(self, tick: Tick, *, after: int) -> Iterator[Iterator[list[Row]]]:
        """The tick's rows with an id above `after`, in the order of their ids, in chunks of
        CHUNK_ROWS. The last chunk has fewer rows, possibly none.

        The rows were fetched with the tick, or come from one server-side cursor with one snapshot,
        taken after the tick's commit. So every relay gets the same batch, and pruning can't remove
        a part of the batch.
        """
        if tick.preloaded is not None and not after:
            yield iter([tick.preloaded])
            return
        with self._connection.cursor() as cursor:
            try:
                drivers.execute(
                    cursor,
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
