"""Nothing goes that a subscriber lacks, and everything goes that nobody lacks."""

import re
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace

import pytest
import redis
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from outbox.consuming.reader import Reader
from outbox.errors import BelowFloor
from outbox.publishing import retention
from outbox.publishing.relay import Relay, own_connection
from outbox.status import of_subscribers
from tests.integration.outbox.conftest import consumer_of
from tests.integration.outbox.test_reader import Probe
from tests.integration.outbox.test_relay import damaging_after, in_streams

LATER = 3_600_000  # milliseconds


@pytest.fixture(autouse=True)
def _short(settings):
    settings.OUTBOX_RETENTION_SECONDS = 60


@pytest.fixture
def prune(shop, streams):
    def at(later_ms: int = LATER) -> retention.Pruned:
        return retention.prune(shop, streams, clock_ms=lambda: retention.clock_ms() + later_ms)

    return at


@pytest.fixture
def reader(shop, streams) -> Reader:
    consumer = consumer_of(shop, Probe(shop))
    return Reader(consumer, shop.label, streams, stopping=threading.Event())


def rows(shop) -> int:
    return shop.event._default_manager.count()


def send(relay, record, number: int) -> None:
    for sequence in range(number):
        record(f"key-{sequence}", 1)
        relay.drain()


def test_without_a_subscriber_nothing_goes(shop, relay, record, prune):
    send(relay, record, 3)
    assert prune().floor == 0
    assert rows(shop) == 3


def test_what_all_have_confirmed_and_is_old_enough_goes(
    shop, streams, relay, record, reader, prune
):
    send(relay, record, 5)
    reader.step()
    reader.confirm()
    done = prune()
    assert done.floor == streams.cursor(shop.label).complete == streams.cursor(shop.label).floor
    assert (rows(shop), done.rows, in_streams(streams, shop.label)) == (0, 5, [])
    assert shop.tick._default_manager.count() == 1  # the next batch's base
    send(relay, record, 1)
    assert reader.step() == 1


def test_what_is_younger_than_the_retention_stays(shop, relay, record, reader, prune):
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    prune(later_ms=0)
    assert rows(shop) == 2


def test_the_slowest_subscriber_decides(shop, streams, relay, record, reader, prune):
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 0))
    assert prune().floor == 0
    middle = shop.tick._default_manager.order_by("pk")[1].pk
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), middle))
    assert prune().floor == middle
    assert rows(shop) == 1


def test_a_subscriber_that_lacks_a_partition_has_confirmed_nothing(
    shop, streams, relay, record, reader, prune
):
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    streams.confirm(shop.label, "new.one", {0: 1 << 60})
    assert prune().floor == 0
    assert of_subscribers(shop)["new.one"]["confirmed"] is None


def test_confirmations_outlive_the_stream_server(
    shop, streams, valkey, relay, record, reader, prune
):
    send(relay, record, 2)
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 0))
    prune()
    valkey.flush()
    relay.drain()
    reader.step()
    reader.confirm()
    assert prune().floor == 0
    assert rows(shop) == 2


def test_an_idle_partition_does_not_hold_back_the_others(
    shop, streams, relay, record, reader, prune
):
    send(relay, record, 1)  # fifteen partitions never had an entry
    reader.step()
    reader.confirm()
    assert prune().rows == 1


def test_a_partition_with_unread_entries_is_not_confirmed(
    shop, streams, relay, record, reader, prune
):
    reader.step()
    send(relay, record, 4)
    reader.confirm()  # before it read them
    assert prune().rows == 0
    reader.step()
    reader.confirm()
    assert prune().rows == 4


def test_a_flush_lets_no_consumer_confirm_what_it_has_not_read(
    shop, streams, valkey, relay, record, reader, prune
):
    reader.step()
    send(relay, record, 4)
    valkey.flush()
    reader.confirm()
    relay.drain()
    reader.step()
    assert len(Probe(shop).applied) == 4


def test_rows_of_an_open_transaction_stay(shop, relay, record, reader, prune, elsewhere):
    with elsewhere.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.event._meta.db_table} (partition, body) "  # noqa: S608
            "VALUES (0, 'held')"
        )
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    prune()
    elsewhere.commit()
    assert rows(shop) == 1


def test_more_rows_than_one_batch_go(shop, relay, record, reader, prune, monkeypatch):
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    done = prune()
    assert (done.rows, rows(shop), shop.tick._default_manager.count()) == (10, 0, 1)


def test_a_round_begins_where_the_last_one_ended(shop, relay, record, reader, prune):
    """Else it would walk over all that was deleted since the last vacuum."""
    begun = []
    for _ in range(2):
        send(relay, record, 2)
        reader.step()
        reader.confirm()
        with CaptureQueriesContext(shop.connection) as asked:
            assert prune().rows > 0
        first = next(one["sql"] for one in asked if "DELETE" in one["sql"])
        begun.append(int(re.search(r"xid >= (\d+)", first)[1]))
    assert begun[1] > max(begun[0], 3)


def test_each_batch_is_followed_by_a_rest_in_proportion(
    shop, relay, record, reader, prune, monkeypatch
):
    """Batches without a pause fill the log, and all who commit wait until it is flushed."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    with monkeypatch.context() as timed:
        times = chain([0.0, 1.0, 1.1, 2.0, 2.3], repeat(3.0))
        rests = _clocked(timed, times)
        assert prune().rows == 10
    expected = [retention.RESTS * 0.1, retention.RESTS * 0.3]  # none after the last batch
    assert rests[:2] == pytest.approx(expected)
    assert not any(rests[2:])  # of the ticks, for which time stands still here


def test_no_batch_waits_until_its_log_is_flushed(shop, relay, record, reader, prune, monkeypatch):
    batches = 20
    monkeypatch.setattr(retention, "BATCH_ROWS", 1)
    for sequence in range(batches):
        record(f"key-{sequence}", 1)
    relay.drain()  # into one tick, since a batch of ticks is flushed
    reader.step()
    reader.confirm()
    before = _log_flushes(shop)
    assert prune().rows == batches
    assert 0 < _log_flushes(shop) - before < batches  # the floor is flushed


def test_a_caller_s_transaction_would_hide_the_floor_and_is_refused(shop, streams):
    with (
        transaction.atomic(using=shop.alias),
        pytest.raises(RuntimeError, match="durable"),
    ):
        retention.prune(shop, streams)


def _log_flushes(shop) -> int:
    """How often the session has written the log by itself, as who flushes it must."""
    with shop.connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT sum(writes) FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"
        )
        return int(cursor.fetchone()[0])


def _clocked(patching: pytest.MonkeyPatch, times: Iterator[float]) -> list[float]:
    """Give retention these times; what it rests is returned, and takes none."""
    rests: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: next(times), sleep=rests.append)
    patching.setattr(retention, "time", clock)
    return rests


def test_what_a_round_had_no_time_for_goes_with_the_next(
    shop, relay, record, reader, prune, monkeypatch
):
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    with monkeypatch.context() as hurried:
        times = iter([0.0, 0.0, 4.9, 5.0])  # the deadline's, around one batch, and no more
        rests = _clocked(hurried, times)
        done = prune()
    assert (done.rows, done.ticks, rows(shop)) == (3, 0, 7)
    assert rests == [pytest.approx(0.1)]  # not beyond the deadline
    done = prune()
    assert (done.rows, rows(shop), shop.tick._default_manager.count()) == (7, 0, 1)


def test_a_server_that_lost_everything_gets_what_is_above_the_floor(
    shop, streams, valkey, relay, record, reader, prune
):
    send(relay, record, 3)
    reader.step()
    reader.confirm()
    prune()
    send(relay, record, 2)
    valkey.flush()
    relay.drain()
    assert len(in_streams(streams, shop.label)) == 2
    with own_connection(shop) as connection:
        assert Relay(shop, streams, connection).drain() == 0


def test_a_consumer_below_the_floor_stands_still_and_names_backfill(
    shop, streams, relay, record, reader, prune
):
    send(relay, record, 3)
    reader.step()
    reader.confirm()
    prune()
    shop.position._default_manager.update(entry="0-0")  # restored from an old backup
    send(relay, record, 1)
    late = Reader(
        consumer_of(shop, Probe(shop, "late")), shop.label, streams, stopping=threading.Event()
    )
    with pytest.raises(BelowFloor, match="backfill"):
        late.step()
    assert Probe(shop, "late").applied == []


def test_a_consumer_below_the_floor_stands_still_after_a_flush_too(
    shop, streams, valkey, relay, record, reader, prune
):
    send(relay, record, 3)
    reader.step()
    reader.confirm()
    prune()
    shop.position._default_manager.update(entry="0-0")  # restored from an old backup
    send(relay, record, 1)
    valkey.flush()
    relay.drain()  # and no round of pruning has told the floor again
    late = Reader(
        consumer_of(shop, Probe(shop, "late")), shop.label, streams, stopping=threading.Event()
    )
    with pytest.raises(BelowFloor):
        late.step()
    assert Probe(shop, "late").applied == []


@pytest.fixture
def prune_half(shop, streams):
    """A round whose time is up when the floor is committed: rows and ticks below it stay."""

    def half() -> None:
        retention.prune(
            shop,
            streams,
            budget_seconds=-1.0,
            clock_ms=lambda: retention.clock_ms() + LATER,
        )

    return half


def test_a_relay_that_resends_does_not_stand_on_a_tick_that_is_pruned_meanwhile(
    shop, streams, valkey, relay, record, reader, prune, prune_half, monkeypatch
):
    send(relay, record, 5)
    reader.step()
    reader.confirm()
    prune_half()
    send(relay, record, 2)
    valkey.flush()
    monkeypatch.setattr(streams, "prepare", damaging_after(streams, 1, prune))
    relay.drain()
    send(relay, record, 1)
    newest = shop.tick._default_manager.order_by("-pk")[0].pk
    assert streams.cursor(shop.label).complete == newest
    assert len(in_streams(streams, shop.label)) == 3


def test_what_was_pruned_from_the_streams_is_not_taken_for_a_strangers_when_one_is_lost(
    shop, streams, valkey, relay, record, reader, prune_half, caplog
):
    send(relay, record, 8)
    reader.step()
    reader.confirm()
    prune_half()
    send(relay, record, 8)
    with redis.Redis.from_url(valkey.url) as server:
        lost = next(iter(streams.cursor(shop.label).tops))
        server.delete(f"{{{shop.label}}}:events:{lost}")
    relay.drain()
    assert "was lost" in caplog.text
    assert "foreign" not in caplog.text
    assert len(in_streams(streams, shop.label)) == 8
