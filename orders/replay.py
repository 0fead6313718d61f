"""Stored events told once more, as of a snapshot: what a projection is rebuilt from.

One stored event makes one public event, so what was published can be made again: stored event →
order → public event, which the projection's own handlers then read.
"""

import json
from uuid import UUID

from django.db import connections, router

from outbox.envelope import Envelope
from outbox.projection import Replayed

from .domain.codec import Encoded, decode
from .domain.events import Event
from .domain.order import Order, evolve
from .models import StoredEvent
from .published import announce

FIRST = UUID(int=0)

# By the index of (stream, version), so each chunk costs what it holds.
STORED = """
SELECT stream, type, schema_version, data FROM orders_storedevent
 WHERE stream > %s AND pg_visible_in_snapshot(xid, %s::pg_snapshot)
 ORDER BY stream, version LIMIT %s
"""


def orders_as_of(*, snapshot: str, after: str, limit: int) -> Replayed:
    """Of the next orders after the id `after` ('' to begin), about `limit` stored events' worth:
    the last public event that each had when `snapshot` was taken. Each holds the whole order,
    and the projections show the latest only, so those before it would change nothing.

    Raises UnreadableEvent at an event that this release has no codec for.
    """
    rows = _stored(snapshot, after, limit)
    latest: dict[UUID, tuple[Event, Order]] = {}
    for stream, type_, schema_version, data in rows:
        encoded = Encoded(type=type_, schema_version=schema_version, data=json.loads(data))
        event = decode(encoded, order_id=stream)
        before = latest.get(stream)
        latest[stream] = event, evolve(before[1] if before else None, event)
    envelopes: list[Envelope] = [announce(event, order) for event, order in latest.values()]
    return Replayed(envelopes=envelopes, events=len(rows), last=str(rows[-1][0]) if rows else after)


def stored_events() -> int:
    """How many there are, on the primary."""
    return StoredEvent.objects.using(router.db_for_write(StoredEvent)).count()


def _stored(snapshot: str, after: str, limit: int) -> list[tuple[UUID, str, int, str]]:
    """Whole streams: where the limit cut one, it is left for the next time."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(STORED, [after or FIRST, snapshot, limit])
        rows = list(cursor.fetchall())
    if len(rows) < limit:
        return rows
    whole = [row for row in rows if row[0] != rows[-1][0]]
    return whole or _stored(snapshot, after, 2 * limit)
