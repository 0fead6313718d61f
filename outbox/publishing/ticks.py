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
        tick, event = quote(tables.tick._meta.db_table), quote(tables.event._meta.db_table)
        self._genesis_sql = (
            f"INSERT INTO {tick} (id, prev, snapshot) SELECT 0, NULL, %s::pg_snapshot "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT FROM {tick}) ON CONFLICT DO NOTHING"
        )
        self._read_sql = (
            "SELECT t.id, t.prev, t.snapshot::text, "  # noqa: S608
            "coalesce(p.snapshot, t.snapshot)::text, t.skip "
            f"FROM {tick} t LEFT JOIN {tick} p ON p.id = t.prev "
        )
        self._first_sql = f"SELECT min(id) FROM {tick}"  # noqa: S608
        state = quote(tables.state._meta.db_table)
        self._floor_sql = f"SELECT value::bigint FROM {state} WHERE name = 'floor'"  # noqa: S608
        self._last_sql = f"SELECT max(id) FROM {tick}"  # noqa: S608
        self._mending_sql = f"SELECT prev FROM {tick} WHERE id > %s ORDER BY id LIMIT 1"  # noqa: S608
        self._mend_sql = (
            f"INSERT INTO {tick} (id, prev, snapshot, skip) "  # noqa: S608
            "VALUES (%s, %s, pg_current_snapshot(), %s::bigint[])"
        )
        self._unseen_sql = (
            f"SELECT e.id, e.body FROM {event} e WHERE NOT pg_visible_in_snapshot("  # noqa: S608
            f"e.xid, (SELECT snapshot FROM {tick} WHERE id = %s)) ORDER BY e.id"
        )
        self._seen_sql = (
            f"SELECT id FROM {event} WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)"  # noqa: S608
        )
        self._overtaken_sql = (
            f"SELECT EXISTS (SELECT FROM {event} "  # noqa: S608
            "WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())) OR EXISTS ("
            f"SELECT FROM {tick} WHERE id = (SELECT max(id) FROM {tick}) "
            "AND pg_snapshot_xmax(snapshot) > pg_snapshot_xmax(pg_current_snapshot()))"
        )
        # Sorted are ids and places, not bodies: the first chunk of a long backlog comes early,
        # and one snapshot sees one version of a row. A planner without statistics, or with those
        # of one long transaction, would join with the whole table, or walk it along its ids:
        # LATERAL … OFFSET 0 and `id + 0` leave it no choice but a probe for each open xid.
        batch = (
            "SELECT e.id, e.partition, e.body FROM (SELECT id, place FROM ("  # noqa: S608
            f"SELECT id, ctid AS place FROM {event} "
            "WHERE xid >= pg_snapshot_xmax(%(previous)s::pg_snapshot) "
            "AND xid < pg_snapshot_xmax(%(snapshot)s::pg_snapshot) "
            "AND pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot) "
            "UNION ALL SELECT late.id, late.place "
            "FROM pg_snapshot_xip(%(previous)s::pg_snapshot) AS open (xid), "
            f"LATERAL (SELECT id, ctid AS place FROM {event} WHERE xid = open.xid OFFSET 0) late "
            "WHERE pg_visible_in_snapshot(open.xid, %(snapshot)s::pg_snapshot)"
            ") AS seen WHERE id + 0 > %(after)s ORDER BY id OFFSET 0) AS sorted "
            f"JOIN {event} e ON e.ctid = sorted.place ORDER BY sorted.id"
        )
        self._rows_sql = (
            f"BEGIN; DECLARE batch NO SCROLL CURSOR FOR {batch}; FETCH %(chunk)s FROM batch"
        )
        with_rows = batch % {"previous": "last.snapshot", "snapshot": "made.snapshot", "after": 0}
        # Each EXISTS is one index probe; joined by OR inside one EXISTS they cost a full scan.
        # A batch of few transactions comes along: what the tick sees is what its statement does.
        self._make = Prepared(
            f"WITH last AS (SELECT id, snapshot FROM {tick} "  # noqa: S608
            f"WHERE id = (SELECT max(id) FROM {tick})), "
            f"made AS (INSERT INTO {tick} (id, prev, snapshot) "
            "SELECT greatest(last.id + 1, %(clock)s), last.id, pg_current_snapshot() FROM last "
            f"WHERE EXISTS (SELECT FROM {event} e WHERE e.xid >= pg_snapshot_xmax(last.snapshot)) "
            "OR EXISTS (SELECT FROM pg_snapshot_xip(last.snapshot) AS open (xid), "
            f"LATERAL (SELECT FROM {event} WHERE xid = open.xid LIMIT 1) late) "
            "RETURNING id, prev, snapshot) "
            "SELECT made.id, made.prev, made.snapshot::text, last.snapshot::text, few.width, row.* "
            "FROM made CROSS JOIN last CROSS JOIN LATERAL ("
            "SELECT pg_snapshot_xmax(made.snapshot)::text::bigint "
            "- pg_snapshot_xmax(last.snapshot)::text::bigint AS width) AS few "
            # Asked before a long backlog is sorted. A condition in ON is asked afterwards, and
            # without OFFSET 0 the planner would make one of this.
            f"LEFT JOIN LATERAL (SELECT * FROM ({with_rows} LIMIT %(chunk)s) AS all_of_it "
            "WHERE few.width <= %(few)s OFFSET 0) AS row ON true",
            types={"clock": "bigint", "few": "bigint", "chunk": "bigint"},
        )

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
        """The oldest tick: everything after it can still be sent again."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._first_sql)
            (oldest,) = cursor.fetchone()
            if oldest is None:
                cursor.execute(self._genesis_sql, [GENESIS])
                cursor.execute(self._first_sql)
                (oldest,) = cursor.fetchone()
        return int(oldest)

    def floor(self) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(self._floor_sql)
            found = cursor.fetchone()
        return int(found[0]) if found else 0

    def last(self) -> int:
        """The newest tick."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._last_sql)
            return int(cursor.fetchone()[0])

    def bridge(self, lost: int) -> int | None:
        """For a tick that this database doesn't have: the one it went on from, if a later tick
        was made in the place of what was lost."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._mending_sql, [lost])
            found = cursor.fetchone()
        return found[0] if found and found[0] is not None and found[0] < lost else None

    def mend(self, *, above: int, skip: Iterable[int] = ()) -> None:
        """Make the next tick with an id above a lost one, passing over rows that were sent."""
        last = self.last()
        tick_id = max(last + 1, above + 1, self._clock_ms())
        with self._connection.cursor() as cursor, suppress(IntegrityError):
            cursor.execute(self._mend_sql, [tick_id, last, list(skip)])

    def unseen(self) -> list[tuple[int, str]]:
        """The rows that the last tick doesn't see: id and event."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._unseen_sql, [self.last()])
            return list(cursor.fetchall())

    def seen_by(self, snapshot: str) -> set[int]:
        with self._connection.cursor() as cursor:
            cursor.execute(self._seen_sql, [snapshot])
            return {row for (row,) in cursor.fetchall()}

    def overtaken(self) -> bool:
        """Whether rows or ticks bear transaction ids that this server has yet to give."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._overtaken_sql)
            return bool(cursor.fetchone()[0])

    def get(self, tick_id: int) -> Tick | None:
        return self._read("WHERE t.id = %s", tick_id)

    def after(self, tick_id: int) -> Tick | None:
        """The tick that follows, if it was made."""
        return self._read("WHERE t.prev = %s", tick_id)

    def _read(self, where: str, tick_id: int) -> Tick | None:
        with self._connection.cursor() as cursor:
            cursor.execute(self._read_sql + where, [tick_id])
            found = cursor.fetchone()
        if not found:
            return None
        tick_id, prev, snapshot, previous, skip = found
        return Tick(tick_id, prev, snapshot, previous, frozenset(skip or ()))

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
