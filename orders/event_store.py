"""The event store: one stream of events per order, appended with optimistic concurrency.

An append names the version that it is based on, and fails if the stream has another version (Young,
"CQRS documents": expected version).
"""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.checks import CheckMessage
from django.db import connections, router

from placement.checks import append_only

from .domain.codec import BrokenStream, Encoded, decode, encode
from .domain.errors import ConcurrentAppend
from .domain.events import Event
from .domain.metadata import Metadata
from .models import StoredEvent

# Returns the version found if the append is refused (else null), and the transaction's id
# (migration 0006).
APPEND = (
    "SELECT held, appended_in::text"
    " FROM orders_append(%s, %s, %s, %s, %s::jsonb[], %s, %s::smallint[], %s::text[])"
)

# The last event of each stream: the first row of the stream in a backward scan of the index on
# (stream, version).
LAST_OF = """
SELECT DISTINCT ON (stream) stream, version, type FROM orders_storedevent
 WHERE stream = ANY (%s::uuid[]) ORDER BY stream DESC, version DESC
"""
LAST_BETWEEN = """
SELECT stream FROM (
  SELECT DISTINCT ON (stream) stream, type FROM orders_storedevent
   WHERE stream > %s::uuid AND (%s::uuid IS NULL OR stream <= %s::uuid)
   ORDER BY stream DESC, version DESC
) AS last WHERE type = ANY (%s) LIMIT %s
"""


def append(
    stream: UUID,
    *,
    expected_version: int,
    events: Sequence[Event],
    metadata: Metadata,
    announcing: Sequence[tuple[int, str]] = (),
) -> int:
    """Append `events`, starting at `expected_version` + 1, and the outbox rows that announce
    them (see `outbox.recorder.row_of`). Returns the transaction's id.

    Raises ConcurrentAppend if the stream isn't at `expected_version` (0: no stream) or a concurrent
    append commits first. Then nothing is appended, and the caller's transaction stays usable.
    """
    encoded = [encode(event) for event in events]
    values: list[Any] = [
        stream,
        expected_version,
        [event.type for event in encoded],
        [event.schema_version for event in encoded],
        [json.dumps(event.data) for event in encoded],
        json.dumps(metadata.as_json()),
        [partition for partition, _ in announcing],
        [body for _, body in announcing],
    ]
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(APPEND, values)
        [(found, xid)] = cursor
    if found is not None:
        raise ConcurrentAppend(stream, expected=expected_version, found=found)
    return int(xid)


def load(
    stream: UUID, *, up_to_version: int | None = None, until: datetime | None = None
) -> Iterator[Event]:
    """Yield the events of `stream` from the primary, up to a given version or time; none if the
    stream is unknown.

    Raises UnreadableEvent if this release has no codec for an event, BrokenStream if an event is
    missing.
    """
    for row in stored(stream, up_to_version=up_to_version):
        event = event_of(row)
        # Times never decrease within a stream (handlers._now).
        if until is not None and event.at > until:
            return
        yield event


def stored(stream: UUID, *, up_to_version: int | None = None) -> Iterator[StoredEvent]:
    """Yield the rows of `stream` by version, from the primary. Raises BrokenStream."""
    rows = StoredEvent.objects.using(router.db_for_write(StoredEvent)).filter(stream=stream)
    if up_to_version is not None:
        rows = rows.filter(version__lte=up_to_version)
    for expected, row in enumerate(rows.order_by("version"), start=1):
        if row.version != expected:
            raise BrokenStream(stream, expected=expected, found=row.version)
        yield row


def xid_of(stream: UUID) -> int | None:
    """The id of the transaction that appended the first event of `stream`, from the primary."""
    rows = StoredEvent.objects.using(router.db_for_write(StoredEvent))
    return rows.filter(stream=stream, version=1).values_list("xid", flat=True).first()


def last_of(streams: Collection[UUID]) -> dict[UUID, tuple[int, str]]:
    """The version and the type of the last event of these streams, from the primary."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(LAST_OF, [[str(stream) for stream in streams]])
        return {stream: (version, type_) for stream, version, type_ in cursor.fetchall()}


def ending_with(types: Collection[str], *, after: UUID, upto: UUID | None, limit: int) -> set[UUID]:
    """The streams above `after` up to `upto` whose last event has one of these types, from the
    primary, but not more than `limit`. If `upto` is None, the range has no end."""
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        cursor.execute(LAST_BETWEEN, [after, upto, upto, list(types), limit])
        return {stream for (stream,) in cursor.fetchall()}


def event_of(row: StoredEvent) -> Event:
    """Decode the event in `row`. Raises UnreadableEvent if this release has no codec for it."""
    encoded = Encoded(type=row.type, schema_version=row.schema_version, data=row.data)
    return decode(encoded, order_id=row.stream)


def check_append_only(
    app_configs: Any, databases: Sequence[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """System check orders.E001: the runtime role can't change stored events."""
    return append_only(StoredEvent, databases, code="orders.E001")
