"""Whether what a snapshot of the owner saw has reached a consumer: how two services find a
common position while both go on.

The owner reads rows and the snapshot that it saw them in. Once no event of that snapshot is
missing from a complete tick, and the consumer's positions are at the end of what was published by
then, the consumer has been told whatever the owner saw. Backbone of the Consistency-Token too.
"""

from ..consumer import Consumer
from ..consuming.inbox import START, Inbox
from ..publishing.ticks import GENESIS
from ..streams import Cursor, order
from ..tables import Tables


def snapshot_of(tables: Tables) -> str:
    """What the owner sees now. Take it after reading rows in READ COMMITTED, or in the same
    REPEATABLE READ: it then sees all that the rows came of."""
    with tables.connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])


def is_covered(tables: Tables, snapshot: str, *, by: str) -> bool:
    """Whether every event that `snapshot` sees is seen by the published snapshot `by` ('' for
    nothing published). Two bounds on the index of xids."""
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
    """Whether the consumer's positions are at the end of what the cursor confirms."""
    held = Inbox(consumer.tables, consumer=consumer.name, producer=producer).stored()
    return all(
        order(held.get(partition, START)) >= order(top) for partition, top in cursor.tops.items()
    )
