"""Stored events told once more, as of a snapshot: what a projection is rebuilt from.

One stored event makes one public event, and what the projections would read of that can be told
without it (`OrderChanged.of`): stored event → order → what is shown.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import connections, router

from outbox.projection import Replayed

from .domain.codec import BrokenStream, Encoded, decode
from .domain.events import Event
from .domain.order import Order, fold
from .inbound import OrderChanged
from .models import StoredEvent

FIRST = str(UUID(int=0))

# By the index of (stream, version), so each chunk costs what it holds. Text, since to make a UUID
# of each row's, and to read each row's JSON alone, is much of the whole time.
STORED = """
SELECT stream::text, version, type, schema_version, data::text FROM orders_storedevent
 WHERE stream > %s::uuid AND pg_visible_in_snapshot(xid, %s::pg_snapshot)
 ORDER BY orders_storedevent.stream, version LIMIT %s
"""
Row = tuple[str, int, str, int, str]


def orders_as_of(*, snapshot: str, after: str, limit: int) -> Replayed:
    """Of the next orders after the id `after` ('' to begin), about `limit` stored events' worth:
    each as it was when `snapshot` was taken. The projections show the latest only, so what it
    was before would change nothing.

    Raises UnreadableEvent at an event that this release has no codec for, BrokenStream where one
    is missing.
    """
    rows = _stored(snapshot, after, limit)
    return Replayed(
        changes=[OrderChanged.of(order) for order in _folded(rows)],
        events=len(rows),
        last=rows[-1][0] if rows else after,
    )


def stored_events() -> int:
    """How many there are, on the primary."""
    return StoredEvent.objects.using(router.db_for_write(StoredEvent)).count()


def _stored(snapshot: str, after: str, limit: int) -> list[Row]:
    """Whole streams: where the limit cut one, it is left for the next time."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(STORED, [after or FIRST, snapshot, limit])
        rows = list(cursor.fetchall())
    if len(rows) < limit:
        return rows
    whole = [row for row in rows if row[0] != rows[-1][0]]
    return whole or _stored(snapshot, after, 2 * limit)


def _folded(rows: Sequence[Row]) -> Iterator[Order]:
    data = json.loads(f"[{','.join(row[-1] for row in rows)}]")
    for stream, told in groupby(zip(rows, data, strict=True), key=lambda one: one[0][0]):
        if order := fold(_events(UUID(stream), told)):
            yield order


def _events(order_id: UUID, told: Iterable[tuple[Row, Any]]) -> Iterator[Event]:
    for expected, ((_, version, type_, schema_version, _), data) in enumerate(told, start=1):
        if version != expected:
            raise BrokenStream(order_id, expected=expected, found=version)
        encoded = Encoded(type=type_, schema_version=schema_version, data=data)
        yield decode(encoded, order_id=order_id)
