"""Finds a common position of two services while both run. At a common position, the consumer has
applied all events that a snapshot of the owner sees.

The owner reads rows and then takes the snapshot. Once a published tick sees each event
of that snapshot, and the consumer's positions have reached the tops at that tick, the consumer
has applied each event that the owner's snapshot sees.
"""

from collections.abc import Mapping

from ..consumer import Consumer
from ..consuming.inbox import START, Inbox
from ..publishing.ticks import GENESIS
from ..streams import Cursor, order
from ..tables import Tables


def snapshot_of(tables: Tables) -> str:
    """Return the current snapshot. In READ COMMITTED, call this after you read rows; in REPEATABLE
    READ, in the same transaction. Then the snapshot sees all transactions that wrote the rows."""
    with tables.connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])


def is_covered(tables: Tables, snapshot: str, *, by: str) -> bool:
    """Whether the published snapshot `by` ('' if nothing is published) sees every event that
    `snapshot` sees. The query reads one range of the index on xid."""
    event = tables.connection.ops.quote_name(tables.event._meta.db_table)
    with tables.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT NOT EXISTS (SELECT FROM {event} "  # noqa: S608
            "WHERE xid >= pg_snapshot_xmin(%(by)s::pg_snapshot) "
            "AND xid < pg_snapshot_xmax(%(seen)s::pg_snapshot) "
            "AND pg_visible_in_snapshot(xid, %(seen)s::pg_snapshot) "
            "AND NOT pg_visible_in_snapshot(xid, %(by)s::pg_snapshot))",
            {"by": by or GENESIS, "seen": snapshot},
        )
        return bool(cursor.fetchone()[0])


def has_applied(consumer: Consumer, producer: str, cursor: Cursor) -> bool:
    """Whether the consumer's positions have reached the cursor's tops."""
    positions = positions_of(consumer.tables, consumer=consumer.name, producer=producer)
    return has_reached(positions, cursor)


def positions_of(tables: Tables, *, consumer: str, producer: str) -> dict[int, str]:
    """Read a consumer's positions. Call this before reading its effects: then the effects are at
    least as new as the positions."""
    return Inbox(tables, consumer=consumer, producer=producer).stored()


def has_reached(positions: Mapping[int, str], cursor: Cursor) -> bool:
    """Whether the positions have reached the cursor's tops."""
    return all(order(positions.get(p, START)) >= order(top) for p, top in cursor.tops.items())
