"""Older events of an erased subject are deleted once every subscriber has confirmed the erasure."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from outbox.envelope import Envelope
from outbox.partitions import partition_of
from outbox.publishing import erasure
from outbox.testing import recorded
from tests.integration.outbox.conftest import event
from tests.integration.outbox.test_relay import in_streams


@pytest.fixture
def confirm(shop, streams) -> Callable[[], None]:
    """Confirms, for one subscriber, all events that are published now."""

    def confirmed() -> None:
        tick = streams.cursor(shop.label).complete
        streams.confirm(shop.label, "shop.reader", dict.fromkeys(range(16), tick))

    return confirmed


def last_row(shop: Any) -> int:
    return int(shop.event._default_manager.order_by("-pk").values_list("pk", flat=True)[0])


def about(events: list[Envelope]) -> list[tuple[str, str, int]]:
    return [(each.partitionkey, each.subject, each.sequence) for each in events]


def test_events_of_an_erased_subject_are_deleted_with_any_key(
    shop, streams, relay, record, confirm
):
    assert partition_of("order", partitions=16) not in (0, partition_of("ada", partitions=16))
    record("ada", 1)
    record("order", 1, subject="ada")
    record("order", 2, subject="bob")
    record("ada", 2)
    row = last_row(shop)
    record("order", 3, subject="ada")
    relay.drain()
    confirm()
    assert erasure.purge(shop, streams, {"ada": row}) == {}
    kept = [("order", "bob", 2), ("ada", "ada", 2), ("order", "ada", 3)]
    assert about(recorded(shop.event)) == kept
    entries = [Envelope.decode(body) for _, body in in_streams(streams, shop.label)]
    assert sorted(about(entries)) == sorted(kept)


def test_an_event_that_was_committed_after_the_erasure_is_kept(
    shop, streams, relay, record, confirm, elsewhere
):
    late = event(shop, "order", 1, subject="ada")
    with elsewhere.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.event._meta.db_table} (partition, body) VALUES (9, %s)",  # noqa: S608
            [late.encode()],
        )
    record("ada", 2)
    relay.drain()
    confirm()
    elsewhere.commit()
    relay.drain()  # no subscriber has confirmed the late event
    assert erasure.purge(shop, streams, {"ada": last_row(shop)}) == {}
    assert late in recorded(shop.event)
    assert late.encode().encode() in [body for _, body in in_streams(streams, shop.label)]


def test_an_erasure_that_waits_delays_no_other(shop, streams, relay, record, confirm):
    record("ada", 1)
    record("ada", 2)
    erased = {"ada": last_row(shop)}
    relay.drain()
    confirm()
    for name in ("bob", "cy"):
        record(name, 1)
        record(name, 2)
        erased[name] = last_row(shop)
        if name == "bob":
            relay.drain()
    assert erasure.purge(shop, streams, erased) == {
        "bob": ("shop.reader",),
        "cy": (erasure.RELAY,),
    }
    assert [each[1:] for each in about(recorded(shop.event))] == [
        ("ada", 2),
        ("bob", 1),
        ("bob", 2),
        ("cy", 1),
        ("cy", 2),
    ]


def test_a_malformed_row_delays_no_erasure(shop, streams, relay, record, confirm, monkeypatch):
    monkeypatch.setattr(erasure, "BATCH_ROWS", 2)
    record("ada", 1)
    shop.event._default_manager.create(partition=0, body="not JSON")
    record("ada", 2)
    record("ada", 3)
    relay.drain()
    confirm()
    assert erasure.purge(shop, streams, {"ada": last_row(shop)}) == {}
    assert shop.event._default_manager.count() == 2


def test_confirmations_are_compared_without_a_read_of_all_ticks(shop, streams, relay, record):
    record("ada", 1)
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.tick._meta.db_table} (id, prev, snapshot) "  # noqa: S608
            "SELECT n, n - 1, pg_current_snapshot() FROM generate_series(1, 20000) n"
        )
        missing = erasure._with_names(erasure._MISSING, shop)
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {missing}",
            {"names": ["a", "b"], "ticks": [15_000, None], "rows": [last_row(shop)]},
        )
        [([found],)] = cursor.fetchall()
    assert found["Plan"]["Shared Hit Blocks"] < 30
