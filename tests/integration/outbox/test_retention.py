"""Events are pruned once every subscriber has applied them, and never before."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from outbox.consuming.reader import Reader
from outbox.errors import BelowFloor
from outbox.keys import confirmed
from outbox.publishing import retention
from outbox.publishing.relay import Relay, own_connection
from outbox.status import of_subscribers
from tests.integration.outbox.conftest import consumer_of
from tests.integration.outbox.test_reader import Probe
from tests.integration.outbox.test_relay import damaging_after, in_streams
from tests.integration.outbox.test_sessions import _is_waiting
from tests.support.waiting import eventually

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


def test_nothing_is_pruned_without_a_subscriber(shop, relay, record, prune):
    send(relay, record, 3)
    assert prune().floor == 0
    assert rows(shop) == 3


def test_old_events_confirmed_by_all_are_pruned(shop, streams, relay, record, reader, prune):
    send(relay, record, 5)
    reader.step()
    reader.confirm()
    done = prune()
    assert done.floor == streams.cursor(shop.label).complete == streams.cursor(shop.label).floor
    assert (rows(shop), done.rows, in_streams(streams, shop.label)) == (0, 5, [])
    assert shop.tick._default_manager.count() == 1  # the next batch starts from this tick
    send(relay, record, 1)
    assert reader.step() == 1


def test_events_younger_than_the_retention_are_kept(shop, relay, record, reader, prune):
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    prune(later_ms=0)
    assert rows(shop) == 2


def test_an_infinite_retention_keeps_all_events(shop, relay, record, reader, prune, settings):
    settings.OUTBOX_RETENTION_SECONDS = float("inf")
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    prune()
    assert rows(shop) == 2


def test_the_slowest_subscriber_sets_the_floor(shop, streams, relay, record, reader, prune):
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 0))
    assert prune().floor == 0
    middle = shop.tick._default_manager.order_by("pk")[1].pk
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), middle))
    assert prune().floor == middle
    assert rows(shop) == 1


def test_a_consumer_is_a_subscriber_once_it_has_confirmed_every_partition(
    shop, streams, relay, record, reader, prune
):
    """One field of a name that doesn't exist would stop retention for ever."""
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    streams.confirm(shop.label, "new.one", dict.fromkeys(range(15), 0))
    assert prune().floor == streams.cursor(shop.label).complete
    assert "new.one" not in of_subscribers(shop)
    streams.confirm(shop.label, "new.one", {15: 0})
    send(relay, record, 1)
    reader.step()
    reader.confirm()
    assert prune().rows == 0
    assert of_subscribers(shop)["new.one"]["confirmed"] == 0


def test_a_subscriber_that_confirms_too_little_keeps_its_last_tick(
    shop, streams, relay, record, prune
):
    """The stream server may have lost the other partitions' confirmations."""
    send(relay, record, 1)
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 5))
    prune()
    streams.forget(shop.label, "slow.one")
    streams.confirm(shop.label, "slow.one", {0: 9})
    prune()
    assert of_subscribers(shop)["slow.one"]["confirmed"] == 5


def test_invented_subscribers_of_a_service_are_bounded(
    shop, streams, relay, record, prune, monkeypatch
):
    monkeypatch.setattr(retention, "MOST_SUBSCRIBERS", 3)
    send(relay, record, 1)
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 5))
    prune()
    for number in range(9):
        streams.confirm(shop.label, f"slow.invented{number}", dict.fromkeys(range(16), 0))
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 6))
    streams.confirm(shop.label, "other.one", dict.fromkeys(range(16), 7))
    for _ in range(2):
        prune()
        found = of_subscribers(shop)
        assert set(found) == {"slow.one", "slow.invented0", "slow.invented1", "other.one"}
        assert found["slow.one"]["confirmed"] == 6


def test_invented_fields_hide_no_subscriber(shop, streams, valkey, relay, record, prune):
    """A scan of the confirmations would stop before it has found all partitions."""
    send(relay, record, 1)
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 5))
    prune()
    with redis.Redis.from_url(valkey.url) as client:
        invented: Any = dict.fromkeys(range(20_000), 1)
        client.hset(confirmed(shop.label, by="slow"), mapping=invented)
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 6))
    prune()
    assert of_subscribers(shop)["slow.one"]["confirmed"] == 6


def test_confirmations_survive_the_loss_of_the_stream_server(
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
    send(relay, record, 1)  # fifteen partitions have no entry
    reader.step()
    reader.confirm()
    assert prune().rows == 1


def test_a_partition_with_unread_entries_is_not_confirmed(
    shop, streams, relay, record, reader, prune
):
    reader.step()
    send(relay, record, 4)
    reader.confirm()  # before the reader reads the entries
    assert prune().rows == 0
    reader.step()
    reader.confirm()
    assert prune().rows == 4


def test_after_a_flush_no_consumer_confirms_unread_events(
    shop, streams, valkey, relay, record, reader, prune
):
    reader.step()
    send(relay, record, 4)
    valkey.flush()
    reader.confirm()
    relay.drain()
    reader.step()
    assert len(Probe(shop).applied) == 4


def test_rows_of_an_open_transaction_are_kept(shop, relay, record, reader, prune, elsewhere):
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


def test_more_rows_than_one_batch_are_pruned(shop, relay, record, reader, prune, monkeypatch):
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    done = prune()
    assert (done.rows, rows(shop), shop.tick._default_manager.count()) == (10, 0, 1)


def test_a_round_starts_at_the_end_of_the_last_round(shop, relay, record, reader, prune):
    """A round from the first row would scan all rows that were deleted since the last vacuum."""
    starts = []
    for _ in range(2):
        send(relay, record, 2)
        reader.step()
        reader.confirm()
        with CaptureQueriesContext(shop.connection) as queries:
            assert prune().rows > 0
        first = next(one["sql"] for one in queries if "DELETE" in one["sql"])
        starts.append(int(re.search(r"xid >= (\d+)", first)[1]))
    assert starts[1] > max(starts[0], 3)


def test_each_batch_has_a_proportional_pause(shop, relay, record, reader, prune, monkeypatch):
    """Batches without a pause fill the WAL, and every commit waits for a WAL flush."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    with monkeypatch.context() as timed:
        times = chain([0.0, 1.0, 1.1, 2.0, 2.3], repeat(3.0))
        rests = _clocked(timed, times)
        assert prune().rows == 10
    expected = [retention.PAUSE_FACTOR * each for each in (0.1, 0.3)]  # none after the last batch
    assert rests[:2] == pytest.approx(expected)
    assert not any(rests[2:])  # no pause for ticks: the clock doesn't advance


def test_batches_do_not_wait_for_a_wal_flush(shop, relay, record, reader, prune, monkeypatch):
    batches = 20
    monkeypatch.setattr(retention, "BATCH_ROWS", 1)
    for sequence in range(batches):
        record(f"key-{sequence}", 1)
    relay.drain()  # into one tick, since each deletion of ticks flushes
    reader.step()
    reader.confirm()
    before = _log_flushes(shop)
    assert prune().rows == batches
    assert 0 < _log_flushes(shop) - before < batches  # only the floor is flushed


def test_pruning_inside_a_transaction_is_refused(shop, streams):
    with (
        transaction.atomic(using=shop.alias),
        pytest.raises(RuntimeError, match="durable"),
    ):
        retention.prune(shop, streams)


def _log_flushes(shop) -> int:
    """The number of WAL writes of this session; each flush writes the WAL."""
    with shop.connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT sum(writes) FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"
        )
        return int(cursor.fetchone()[0])


def _clocked(patching: pytest.MonkeyPatch, times: Iterator[float]) -> list[float]:
    """Make `retention` read these times and skip its pauses; returns the list of pauses."""
    rests: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: next(times), sleep=rests.append)
    patching.setattr(retention, "time", clock)
    return rests


def test_the_next_round_prunes_the_rest(shop, relay, record, reader, prune, monkeypatch):
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    send(relay, record, 10)
    reader.step()
    reader.confirm()
    with monkeypatch.context() as hurried:
        times = iter([0.0, 0.0, 4.9, 5.0])  # deadline; start and end of one batch; end of the round
        rests = _clocked(hurried, times)
        done = prune()
    assert (done.rows, done.ticks, rows(shop)) == (3, 0, 7)
    assert rests == [pytest.approx(0.1)]  # the pause ends at the deadline
    done = prune()
    assert (done.rows, rows(shop), shop.tick._default_manager.count()) == (7, 0, 1)


def test_an_empty_server_gets_the_events_above_the_floor(
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


@pytest.mark.parametrize("flushed", [False, True], ids=["streams kept", "streams lost"])
def test_a_consumer_below_the_floor_stops_and_names_backfill(
    shop, streams, valkey, relay, record, reader, prune, flushed
):
    send(relay, record, 3)
    reader.step()
    reader.confirm()
    prune()
    shop.position._default_manager.update(entry="0-0")  # as after the restore of an old backup
    send(relay, record, 1)
    if flushed:
        valkey.flush()
        relay.drain()  # publishes the floor again, without a round of pruning
    late = Reader(
        consumer_of(shop, Probe(shop, "late")), shop.label, streams, stopping=threading.Event()
    )
    with pytest.raises(BelowFloor, match="backfill"):
        late.step()
    assert Probe(shop, "late").applied == []


@pytest.fixture
def prune_half(shop, streams):
    """A round that ends after it commits the floor: the rows and ticks below the floor stay."""

    def half() -> None:
        retention.prune(
            shop,
            streams,
            budget_seconds=-1.0,
            clock_ms=lambda: retention.clock_ms() + LATER,
        )

    return half


def test_streams_that_went_back_below_the_floor_get_the_floor_again(
    shop, streams, server, relay, record, reader, prune_half
):
    record("a", 1)
    relay.drain()
    replica = {key: server.dump(key) for key in server.scan_iter()}
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    prune_half()  # the tick at which the replica's cursor is exists
    floor = streams.cursor(shop.label).floor
    server.flushall()
    for key, value in replica.items():
        server.restore(key, 0, value)
    record("a", 2)
    relay.drain()
    assert 0 < floor == streams.cursor(shop.label).floor
    assert in_streams(streams, shop.label)[-1][1].decode() == newest_body(shop)


def newest_body(shop) -> str:
    return str(shop.event._default_manager.order_by("-pk")[0].body)


def test_a_relay_that_resends_does_not_stay_on_a_pruned_tick(
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


def test_pruned_entries_are_not_mistaken_for_foreign_when_a_stream_is_lost(
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


def test_two_rounds_at_the_same_time_leave_no_row_behind(
    shop, relay, record, reader, prune, elsewhere, monkeypatch
):
    """The second round would take the rows that the first one is deleting for the last ones."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    send(relay, record, 6)
    reader.step()
    reader.confirm()
    table = shop.event._meta.db_table
    with elsewhere.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"outbox.retention:{shop.label}"],
        )
        first = f"SELECT id FROM {table} ORDER BY xid LIMIT 2"  # noqa: S608
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({first})")  # noqa: S608

    def work() -> None:
        try:
            prune()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        try:
            eventually(lambda: _is_waiting(shop), within_seconds=10, what="the round waits")
        finally:
            elsewhere.commit()
        running.result(10)
    assert rows(shop) == 0


@pytest.mark.parametrize("before", ['SET "value"', "DELETE FROM"])
def test_a_process_that_freezes_with_a_lock_stops_no_other_round(
    shop, relay, record, reader, prune, monkeypatch, before
):
    """It would keep the lock, and each later round would keep one of the worker's threads."""
    monkeypatch.setattr(retention, "BOUNDED", retention.BOUNDED.replace("10s", "5s"))
    send(relay, record, 2)
    reader.step()
    reader.confirm()
    has_lock, resume = threading.Event(), threading.Event()

    def freeze(execute: Any, statement: str, *rest: Any) -> Any:
        if before in statement:
            has_lock.set()
            assert resume.wait(60)
        return execute(statement, *rest)

    def work() -> None:
        try:
            with shop.connection.execute_wrapper(freeze):
                prune()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        frozen = pool.submit(work)
        assert has_lock.wait(10)
        try:
            prune_elsewhere(pool, prune).result(30)
            assert rows(shop) == 0
        finally:
            resume.set()
        with pytest.raises(DatabaseError):
            frozen.result(10)


def prune_elsewhere(pool: ThreadPoolExecutor, prune: Any) -> Future[None]:
    def work() -> None:
        try:
            prune()
        finally:
            connections.close_all()

    return pool.submit(work)
