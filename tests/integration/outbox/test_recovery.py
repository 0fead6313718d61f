"""Recovery of databases that are behind their streams or were restored on another server."""

import json
import threading
from collections.abc import Callable
from io import StringIO
from itertools import islice
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from outbox.consuming.reader import Reader
from outbox.errors import RestoredDatabase
from outbox.publishing import erasure, retention
from outbox.publishing.relay import Relay, own_connection, try_lock
from outbox.publishing.restamp import Restamp
from outbox.publishing.ticks import Ticks
from outbox.streams import order
from tests.integration.outbox.conftest import consumer_of
from tests.integration.outbox.test_reader import Probe
from tests.integration.outbox.test_relay import in_streams

FORTNIGHT = 14 * 24 * 3_600_000  # milliseconds: longer than the retention


@pytest.fixture
def reader(shop, streams) -> Reader:
    consumer = consumer_of(shop, Probe(shop))
    return Reader(consumer, shop.label, streams, stopping=threading.Event())


def fail_over(shop: Any, *, lost_rows: int, lost_ticks: int) -> None:
    """Remove rows and ticks, as on a standby that did not receive the last commits."""
    ticks = shop.tick._default_manager.order_by("-pk").values_list("pk", flat=True)[:lost_ticks]
    shop.tick._default_manager.filter(pk__in=list(ticks)).delete()
    rows = shop.event._default_manager.order_by("-pk").values_list("pk", flat=True)[:lost_rows]
    shop.event._default_manager.filter(pk__in=list(rows)).delete()


def test_events_of_lost_ticks_are_not_sent_again(shop, streams, record, reader):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for sequence in range(1, 6):
            record("a", sequence)
            before.drain()
    reader.step()
    fail_over(shop, lost_rows=0, lost_ticks=2)
    record("a", 6)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", sequence) for sequence in range(1, 7)]


def test_events_whose_rows_are_lost_are_reported(shop, streams, record, reader, caplog):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for key in "abcde":
            record(key, 1)
            before.drain()
    fail_over(shop, lost_rows=2, lost_ticks=3)
    record("f", 1)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    phantoms = json.loads(shop.state._default_manager.get(name="phantoms").value)
    assert sorted(found["subject"] for found in phantoms) == ["d", "e"]
    assert "lost 2 events" in caplog.text
    reader.step()
    assert sorted(Probe(shop).applied) == [(key, 1) for key in "abcdef"]


@pytest.mark.parametrize("step", ["recovery._save_phantoms", "ticks.Ticks.resume"])
def test_lost_rows_are_reported_once_after_a_crash_during_recovery(
    shop, streams, record, monkeypatch, step
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for key in "abcde":
            record(key, 1)
            before.drain()
    fail_over(shop, lost_rows=2, lost_ticks=3)
    with monkeypatch.context() as killed, own_connection(shop) as connection:
        killed.setattr(f"outbox.publishing.{step}", _die)
        with pytest.raises(SystemExit):
            Relay(shop, streams, connection)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    phantoms = json.loads(shop.state._default_manager.get(name="phantoms").value)
    assert sorted(found["subject"] for found in phantoms) == ["d", "e"]


def _die(*_: Any, **__: Any) -> None:
    raise SystemExit


def test_a_relay_resumes_after_a_crash_before_the_recovery_ticks_entries(
    shop, streams, record, reader, monkeypatch
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for sequence in range(1, 5):
            record("a", sequence)
            before.drain()
    fail_over(shop, lost_rows=0, lost_ticks=2)
    record("a", 5)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection)  # makes the recovery tick and publishes nothing
    record("a", 6)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", sequence) for sequence in range(1, 7)]


def test_new_tick_ids_are_above_the_lost_tick_ids(shop, streams, record):
    with own_connection(shop) as connection:
        ahead = Relay(shop, streams, connection, clock_ms=lambda: 1 << 42)
        record("a", 1)
        ahead.drain()
    lost = order(streams.cursor(shop.label).at)[0]
    fail_over(shop, lost_rows=0, lost_ticks=1)
    record("a", 2)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    assert order(streams.cursor(shop.label).at)[0] > lost
    assert len(in_streams(streams, shop.label)) == 2


def test_a_tick_that_database_and_streams_have_lost_is_reported(
    shop, streams, server, record, reader, caplog
):
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        record("a", 1)
        relay.drain()
        kept = streams.cursor(shop.label).at
        record("a", 2)
        relay.drain()
    reader.step()
    reader.confirm()
    fail_over(shop, lost_rows=0, lost_ticks=1)
    retention.save_confirmations(shop, streams)  # the streams have it: the relay continues above it
    assert "has applied tick" not in caplog.text
    server.hset(f"{{{shop.label}}}:cursor", "at", kept)
    retention.save_confirmations(shop, streams)
    assert "probe has applied tick" in caplog.text


def restored_elsewhere(shop: Any) -> None:
    """Change the schema as a restore on another server does: higher xids, another system id."""
    event, tick = shop.event._meta.db_table, shop.tick._meta.db_table
    ahead = 1_000_000_000
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(f"UPDATE {event} SET xid = (xid::text::bigint + {ahead})::text::xid8")  # noqa: S608
        cursor.execute(
            f"UPDATE {tick} SET snapshot = format('%s:%s:', "  # noqa: S608
            f"pg_snapshot_xmax(snapshot)::text::bigint + {ahead}, "
            f"pg_snapshot_xmax(snapshot)::text::bigint + {ahead})::pg_snapshot WHERE id > 0"
        )
    shop.state._default_manager.filter(name="system").update(value="1")


@pytest.mark.parametrize("flushed", [False, True], ids=["streams kept", "streams lost"])
def test_a_restored_dump_is_refused_until_it_is_restamped(
    shop, streams, valkey, record, reader, flushed
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        record("a", 1)
        before.drain()
    record("a", 2)  # committed but not sent when the dump is made
    restored_elsewhere(shop)
    record("a", 3)
    with own_connection(shop) as connection, pytest.raises(RestoredDatabase, match="restamp"):
        Relay(shop, streams, connection)

    if flushed:
        valkey.flush()
    sent = 0 if flushed else 1
    assert restamp(shop).startswith(f"{3 - sent} rows wait to be published; {sent} sent rows")
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    record("a", 4)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", sequence) for sequence in range(1, 5)]


def test_a_restored_dump_without_rows_is_recognised_by_its_ticks(shop, streams, record):
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        record("a", 1)
        relay.drain()
    restored_elsewhere(shop)
    shop.event._default_manager.all().delete()
    shop.state._default_manager.filter(name="system").delete()
    with own_connection(shop) as connection, pytest.raises(RestoredDatabase):
        Relay(shop, streams, connection)


def prune(shop: Any, streams: Any) -> None:
    retention.prune(shop, streams, clock_ms=lambda: retention.clock_ms() + FORTNIGHT)


def restamp(shop: Any) -> str:
    out = StringIO()
    call_command("outbox", "restamp", shop.label, stdout=out)
    return out.getvalue()


def test_a_restamped_outbox_is_pruned_as_before(shop, streams, record, reader):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        record("a", 1)
        before.drain()
        reader.step()
        reader.confirm()
        prune(shop, streams)
        record("a", 2)
    restored_elsewhere(shop)
    restamp(shop)
    prune(shop, streams)  # deletes the tick of the floor; the relay sends no later tick
    assert shop.event._default_manager.count() == 1
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    reader.confirm()
    prune(shop, streams)
    assert shop.event._default_manager.count() == 0
    assert Probe(shop).applied == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("causes", ["restamp", "flush", "restamp and flush"])
def test_the_cursor_names_this_server_before_the_next_event(
    shop, streams, valkey, server, record, reader, causes
):
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        record("a", 1)
        relay.drain()
        origin = streams.cursor(shop.label).origin
        reader.step()
        reader.confirm()
        prune(shop, streams)
    if "restamp" in causes:
        restored_elsewhere(shop)
        server.hset(f"{{{shop.label}}}:cursor", "origin", "1.1")
        restamp(shop)
        assert streams.cursor(shop.label).origin == ""
    if "flush" in causes:
        valkey.flush()
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        relay.drain()
        cursor = streams.cursor(shop.label)
        assert (cursor.origin, bool(cursor.snapshot)) == (origin, True)
        record("a", 2)
        relay.drain()
    reader.step()
    assert Probe(shop).applied == [("a", 1), ("a", 2)]


def dump_of(shop: Any) -> Callable[[], None]:
    """Dumps the producer's tables; call the result to restore them."""
    kept = {model: list(model._default_manager.values()) for model in (shop.event, shop.tick)}

    def restore() -> None:
        for model, rows in kept.items():
            model._default_manager.all().delete()
            model._default_manager.bulk_create([model(**row) for row in rows])
        shop.state._default_manager.filter(name="floor").delete()

    return restore


@pytest.mark.parametrize("recorded", [0, 1], ids=["before any writer", "after a writer"])
def test_a_restamp_resends_nothing_that_was_pruned_since_the_dump(
    shop, streams, record, reader, recorded
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for sequence in range(1, 4):
            record("a", sequence)
            before.drain()
        restore = dump_of(shop)
        reader.step()
        reader.confirm()
        prune(shop, streams)
        record("a", 4)
        before.drain()
        reader.step()
    restore()
    restored_elsewhere(shop)
    for sequence in range(5, 5 + recorded):
        record("a", sequence)
    assert restamp(shop).startswith(
        f"{recorded} rows wait to be published; 3 sent rows were deleted"
    )
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", sequence) for sequence in range(1, 5 + recorded)]


def test_a_restamped_outbox_without_a_tick_is_published(shop, streams, record, reader):
    record("a", 1)
    assert restamp(shop).startswith("1 rows wait")
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", 1)]


@pytest.mark.parametrize("is_lost", [False, True], ids=["streams kept", "another stream lost"])
def test_entries_that_no_consumer_has_read_are_delivered_after_a_restamp(
    shop, streams, server, record, reader, is_lost
):
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        record("c", 1)
        relay.drain()
        (other,) = streams.cursor(shop.label).tops
        reader.step()
        record("a", 1)
        relay.drain()
    assert len(streams.cursor(shop.label).tops) == 2
    restored_elsewhere(shop)
    restamp(shop)
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        relay.drain()
        if is_lost:
            server.delete(f"{{{shop.label}}}:events:{other}")
            relay.drain()
    reader.confirm()
    reader.step()
    assert Probe(shop).applied == [("c", 1), ("a", 1)]


def test_entries_whose_rows_are_skipped_are_delivered_after_another_stream_is_lost(
    shop, streams, server, record, reader
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        record("c", 1)
        before.drain()
        (other,) = streams.cursor(shop.label).tops
        for sequence in range(1, 6):
            record("a", sequence)
            before.drain()
            if sequence == 3:
                reader.step()
    fail_over(shop, lost_rows=0, lost_ticks=2)
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)  # its tick skips the rows of the lost ticks
        server.delete(f"{{{shop.label}}}:events:{other}")
        relay.drain()
    reader.confirm()
    reader.step()
    assert Probe(shop).applied == [("c", 1), *(("a", sequence) for sequence in range(1, 6))]


def test_a_second_restamp_makes_a_tick_above_all_published_entries(
    shop, streams, record, reader, monkeypatch
):
    restore = dump_of(shop)
    with own_connection(shop) as connection:
        record("a", 1)
        Relay(shop, streams, connection).drain()
    # The clock goes back.
    monkeypatch.setattr("outbox.publishing.restamp.clock_ms", lambda: 1)
    monkeypatch.setitem(Ticks.__init__.__kwdefaults__, "clock_ms", lambda: 1)
    for _ in range(2):  # no relay runs in between
        restore()
        restored_elsewhere(shop)
        restamp(shop)
    record("a", 2)
    with own_connection(shop) as connection:
        Relay(shop, streams, connection, clock_ms=lambda: 1).drain()
    reader.step()
    assert Probe(shop).applied == [("a", 1), ("a", 2)]


def test_a_restamp_that_is_stopped_after_any_chunk_continues(
    shop, streams, record, reader, monkeypatch
):
    monkeypatch.setattr("outbox.publishing.recovery.PAGE_ENTRIES", 2)
    monkeypatch.setattr("outbox.publishing.restamp.CHUNK_ROWS", 2)
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for sequence in range(1, 4):
            record("a", sequence)
            before.drain()
    for sequence in range(4, 8):
        record("a", sequence)
    restored_elsewhere(shop)
    record("a", 8)
    stops = 0
    while len(done := one_chunk(shop, streams)) == 2:
        stops += 1
        assert stops < 20
        with own_connection(shop) as connection, pytest.raises(RestoredDatabase):
            Relay(shop, streams, connection)
    assert [(one.waiting, one.deleted) for one in done] == [(5, 3)]
    assert stops >= 6  # two pages of entries, the ticks, and three chunks of rows
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    reader.step()
    assert Probe(shop).applied == [("a", sequence) for sequence in range(1, 9)]


def one_chunk(shop: Any, streams: Any) -> list[Any]:
    """Start a restamp and stop it after one chunk. Returns the progress before and after it."""
    with Restamp(shop, streams).locked() as restamp:
        return list(islice(restamp.run(), 2))


def test_a_restamp_excludes_the_relays_of_its_service(shop, streams):
    with own_connection(shop) as connection:
        with Restamp(shop, streams).locked():
            assert not try_lock(connection, shop.label)
        assert try_lock(connection, shop.label)
        with pytest.raises(CommandError, match=f"a relay or a restamp of {shop.label} runs"):
            restamp(shop)


def test_a_restored_outbox_is_neither_pruned_nor_purged_until_it_is_restamped(
    shop, streams, record, reader
):
    with own_connection(shop) as connection:
        before = Relay(shop, streams, connection)
        for sequence in range(1, 3):
            record("a", sequence)
            before.drain()
    reader.step()
    reader.confirm()
    restored_elsewhere(shop)
    record("a", 3)  # the tick of the floor would see this row
    with pytest.raises(RestoredDatabase):
        prune(shop, streams)
    with pytest.raises(RestoredDatabase):
        erasure.purge(shop, streams, {"a": 3})
    assert shop.event._default_manager.count() == 3
