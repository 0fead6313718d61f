"""Stored events told once more, as of a snapshot: what a projection is rebuilt from.

One stored event makes one public event, and what the projections would read of that can be told
without it (`OrderChanged.of`): stored event → order → what is shown.
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

# By the index of (stream, version), so each chunk costs what it holds: for a limit that it can't
# know the planner takes no sort, also where a table that was just filled or restored has no
# statistics yet. Text, since to make a UUID of each row's, and to read each row's JSON alone, is
# much of the whole time.
STORED = """
SELECT stream::text, version, type, schema_version, data::text FROM orders_storedevent
 WHERE stream > %s::uuid AND pg_visible_in_snapshot(xid, %s::pg_snapshot)
 ORDER BY orders_storedevent.stream, version LIMIT (SELECT %s)
"""
Row = tuple[str, int, str, int, str]


def orders_as_of(*, snapshot: str, after: str, limit: int) -> Replayed:
    """Of the next orders after the id `after` ('' to begin), about `limit` stored events' worth:
    each as it was when `snapshot` was taken. The projections show the latest only, so what it
    was before would change nothing.

    Raises UnreadableEvent at an event that this release has no codec for, BrokenStream where one
    is missing.
    """
    rows = stored_as_of(snapshot=snapshot, after=after, limit=limit)
    return Replayed(
        changes=[OrderChanged.of(order) for order in folded(rows)],
        events=len(rows),
        last=rows[-1][0] if rows else after,
    )


def stored_events() -> int:
    """How many there are, on the primary."""
    return StoredEvent.objects.using(router.db_for_write(StoredEvent)).count()


def stored_as_of(*, snapshot: str, after: str, limit: int) -> list[Row]:
    """About `limit` of the next events, of whole streams: where the limit cut one, it is left for
    the next time."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(STORED, [after or FIRST, snapshot, limit])
        rows: list[Row] = cursor.fetchall()
    if len(rows) < limit:
        return rows
    whole = [row for row in rows if row[0] != rows[-1][0]]
    return whole or stored_as_of(snapshot=snapshot, after=after, limit=2 * limit)


def folded(rows: Sequence[Row]) -> list[Order]:
    """The orders that these events, each stream's in one piece and from its first on, add up to."""
    orders: list[Order] = []
    stream, order = "", None
    data = json.loads(f"[{','.join([row[-1] for row in rows])}]")
    for (of, version, type_, schema_version, _), told in zip(rows, data, strict=True):
        if of != stream:
            if order is not None:
                orders.append(order)
            stream, order_id, order, expected = of, UUID(of), None, 1
        if version != expected:
            raise BrokenStream(order_id, expected=expected, found=version)
        encoded = Encoded(type=type_, schema_version=schema_version, data=told)
        order = evolve(order, decode(encoded, order_id=order_id))
        expected += 1
    if order is not None:
        orders.append(order)
    return orders
