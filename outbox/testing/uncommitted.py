"""Publishes the events of a test's own transaction, which is rolled back at the end of the test."""

from ..streams.memory import MemoryStreams
from ..tables import Tables

# A tick's snapshot never sees its own transaction, so these rows are in no tick.
_NEXT_TICK = "SELECT coalesce(max(id), 0) + 1 FROM {tick}"
_ROWS = """
SELECT id, partition, body FROM {event}
WHERE id > %s AND NOT EXISTS (
  SELECT FROM {tick} last WHERE last.id = (SELECT max(id) FROM {tick})
  AND pg_visible_in_snapshot(xid, last.snapshot)
) ORDER BY id
"""


class Uncommitted:
    """Adds the rows that the test's transaction sees to streams, as one tick that never ends.

    The positions are in the test's transaction too. So a later call of `deliver_all` finds the same
    entries, and continues after those that are applied.
    """

    def __init__(self, tables: Tables, streams: MemoryStreams) -> None:
        self._tables = tables
        self._streams = streams
        self._at, self._last = "", 0
        names = {name: tables.quoted(getattr(tables, name)) for name in ("tick", "event")}
        self._rows_sql = _ROWS.format(**names)
        with tables.connection.cursor() as cursor:
            cursor.execute(_NEXT_TICK.format(**names))
            (self._tick,) = cursor.fetchone()

    def publish(self) -> None:
        """Add the rows that were recorded since the last call, in their order."""
        with self._tables.connection.cursor() as cursor:
            cursor.execute(self._rows_sql, [self._last])
            rows = cursor.fetchall()
        if not rows:
            return
        at = f"{self._tick}-{rows[-1][0]}"
        self._streams.publish(
            self._tables.label, expected=self._at, at=at, tick=self._tick, rows=rows
        )
        self._at, self._last = at, rows[-1][0]
