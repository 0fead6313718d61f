"""Replays the event store for rebuilds: returns orders as of a snapshot.

A replay doesn't build and parse the public event of each stored event: it folds the stored events
into orders, and `OrderChanged.of` converts an order to the result that parsing would have.
"""

import json
from collections.abc import Sequence
from uuid import UUID

from django.db import connections, router

from outbox.projection import Replayed

from .domain.codec import BrokenStream, Encoded, decode
from .domain.order import Order, evolve
from .inbound import OrderChanged
from .models import StoredEvent

FIRST = str(UUID(int=0))

# Uses the index on (stream, version), so only the chunk's rows are read: the limit is unknown at
# plan time, so the planner chooses no sort, even if a table that was just filled or restored has no
# statistics yet. The columns are text, because converting each value to UUID or JSON takes much of
# the whole time.
STORED = """
SELECT stream::text, version, type, schema_version, data::text FROM orders_storedevent
 WHERE stream > %s::uuid AND pg_visible_in_snapshot(xid, %s::pg_snapshot)
 ORDER BY orders_storedevent.stream, version LIMIT (SELECT %s)
"""
Row = tuple[str, int, str, int, str]


def orders_as_of(*, snapshot: str, after: str, limit: int) -> Replayed:
    """Return the orders after the id `after` ('' to start) as of `snapshot`, from about `limit`
    stored events. Each order has only its last state: projections ignore earlier states.

    Raises UnreadableEvent if this release has no codec for an event, BrokenStream if an event is
    missing.
    """
    rows = stored_as_of(snapshot=snapshot, after=after, limit=limit)
    return Replayed(
        changes=[OrderChanged.of(order) for order in fold_streams(rows)],
        events=len(rows),
        last=rows[-1][0] if rows else after,
    )


def stored_events() -> int:
    """The number of stored events, counted on the primary."""
    return StoredEvent.objects.using(router.db_for_write(StoredEvent)).count()


def stored_as_of(*, snapshot: str, after: str, limit: int) -> list[Row]:
    """Return about `limit` events, in whole streams. A stream that the limit cuts is left for the
    next call."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(STORED, [after or FIRST, snapshot, limit])
        rows: list[Row] = cursor.fetchall()
    if len(rows) < limit:
        return rows
    whole = [row for row in rows if row[0] != rows[-1][0]]
    return whole or stored_as_of(snapshot=snapshot, after=after, limit=2 * limit)


def fold_streams(rows: Sequence[Row]) -> list[Order]:
    """The orders of these events, which must be complete streams, in order from version 1."""
    orders: dict[str, Order] = {}
    contents = json.loads(f"[{','.join([row[-1] for row in rows])}]")
    for (stream, version, type_, schema_version, _), data in zip(rows, contents, strict=True):
        order = orders.get(stream)
        order_id, expected = (order.id, order.version + 1) if order else (UUID(stream), 1)
        if version != expected:
            raise BrokenStream(order_id, expected=expected, found=version)
        encoded = Encoded(type=type_, schema_version=schema_version, data=data)
        orders[stream] = evolve(order, decode(encoded, order_id=order_id))
    return list(orders.values())
