"""After the restore of a dump, a snapshot sees a stored event and its outbox row, or neither."""

from collections.abc import Iterable
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from orders.event_store import check_append_only
from orders.models import OutboxEvent, StoredEvent, Tick
from outbox import tables
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from tests.integration.orders.conftest import Place
from tests.integration.outbox.test_recovery import restored_elsewhere
from tests.support.databases import execute_as_owner

AHEAD = """
GRANT UPDATE (xid) ON orders_storedevent TO CURRENT_USER;
UPDATE orders_storedevent SET xid = (xid::text::bigint + 1000000000)::text::xid8;
REVOKE UPDATE (xid) ON orders_storedevent FROM CURRENT_USER
"""


def test_a_restamp_changes_stored_events_together_with_their_rows(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.publishing.restamp.CHUNK_ROWS", 2)
    orders = tables.of("orders")
    sent = [place().id for _ in range(3)]
    with own_connection(orders) as connection:
        Relay(orders, streams, connection).drain()
    waiting = [place().id for _ in range(3)]
    restored_elsewhere(orders)
    execute_as_owner(orders.alias, AHEAD)
    waiting.append(place().id)

    call_command("outbox", "restamp", "orders", stdout=StringIO())

    rows = OutboxEvent.objects.values_list("xid", flat=True)
    assert len(rows) == len(waiting)
    stored = StoredEvent.objects.filter(stream__in=waiting).values_list("xid", flat=True)
    snapshot = Tick.objects.get().snapshot
    assert not any(visible([*rows, *stored], snapshot))
    others = StoredEvent.objects.filter(stream__in=sent).values_list("xid", flat=True)
    assert all(visible(others, snapshot))
    assert check_append_only(None, [orders.alias]) == []


def visible(xids: Iterable[int], snapshot: str) -> list[bool]:
    """Whether the snapshot sees each of these transactions."""
    with connections[OutboxEvent.objects.db].cursor() as cursor:
        cursor.execute(
            "SELECT pg_visible_in_snapshot(xid, %s::pg_snapshot) FROM unnest(%s::xid8[]) xid",
            [snapshot, [str(xid) for xid in xids]],
        )
        return [found for (found,) in cursor.fetchall()]
