"""The relay in one process, while the tests damage the stream server at exact moments."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction

from outbox import recorder
from outbox.errors import CursorUnknown, DatabaseDiffers, StreamsMisconfigured
from outbox.publishing import relay as relaying
from outbox.publishing import ticks as ticking
from outbox.publishing.relay import Outcome, Relay, own_connection, run
from outbox.streams import Streams
from outbox.testing import published
from tests.integration.outbox.conftest import event
from tests.support.waiting import eventually


def in_streams(streams: Streams, label: str) -> list[tuple[str, bytes]]:
    start = dict.fromkeys(range(16), "0-0")
    found = streams.read(label, start, count=10_000, block_seconds=0.01)
    return [(entry.id, entry.body or b"") for entry in found.entries] if found else []


def record_many(shop: Any, number: int) -> None:
    with transaction.atomic(using=shop.alias):
        for sequence in range(1, number + 1):
            recorder.record(event(shop, f"key-{sequence % 20}", sequence), into=shop.event)


def all_arrived(streams: Streams, shop: Any) -> bool:
    bodies = [body.decode() for _, body in in_streams(streams, shop.label)]
    return sorted(bodies) == sorted(shop.event._default_manager.values_list("body", flat=True))


def test_committed_events_are_published_once(shop, streams, relay, record):
    record("a", 1)
    record("b", 1)
    assert relay.drain() == 2
    assert relay.drain() == 0
    assert all_arrived(streams, shop)


def test_an_entry_id_is_its_tick_and_its_row_id(shop, streams, relay, record):
    for value in (1, 2, 3):  # three rows, since the first row's id may equal another number
        record("a", value)
    relay.drain()
    tick = shop.tick._default_manager.order_by("-pk")[0].pk
    rows = shop.event._default_manager.order_by("pk").values_list("pk", flat=True)
    assert len(rows) == 3
    ids = [entry_id for entry_id, _ in in_streams(streams, shop.label)]
    assert ids == [f"{tick}-{row}" for row in rows]


def test_the_cursor_contains_the_snapshot_and_the_origin_of_a_complete_tick(
    shop, streams, relay, record
):
    record("a", 1)
    relay.drain()
    cursor = streams.cursor(shop.label)
    assert cursor.snapshot == shop.tick._default_manager.order_by("-pk")[0].snapshot
    assert cursor.origin.count(".") == 1


def damaging_after(streams: Streams, chunk: int, damage: Callable[[], Any]) -> Callable[..., Any]:
    """Returns a `streams.prepare` that calls `damage` once, after it has published the chunk."""
    prepare, calls = streams.prepare, iter(range(1, 1_000_000))

    def prepared(*args: Any, **options: Any) -> Callable[[], None]:
        publish = prepare(*args, **options)

        def published_then_damaged() -> None:
            publish()
            if next(calls) == chunk:
                damage()

        return published_then_damaged

    return prepared


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_a_flush_between_two_chunks_loses_nothing(shop, streams, relay, server, monkeypatch, chunk):
    monkeypatch.setattr(ticking, "CHUNK_ROWS", 20)
    record_many(shop, 120)
    monkeypatch.setattr(streams, "prepare", damaging_after(streams, chunk, server.flushall))
    relay.drain()
    assert all_arrived(streams, shop)


def test_the_script_is_loaded_again_when_the_server_lost_it(
    shop, streams, relay, server, monkeypatch
):
    monkeypatch.setattr(ticking, "CHUNK_ROWS", 20)
    record_many(shop, 120)
    monkeypatch.setattr(streams, "prepare", damaging_after(streams, 2, server.script_flush))
    assert relay.drain() == 120
    assert all_arrived(streams, shop)


def test_without_the_comparison_a_flush_between_two_chunks_loses_events(
    shop, valkey, server, monkeypatch
):
    from outbox.streams import scripts

    compare = "if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end"
    assert compare in scripts.PUBLISH
    monkeypatch.setattr(scripts, "PUBLISH", scripts.PUBLISH.replace(compare, ""))
    monkeypatch.setattr(ticking, "CHUNK_ROWS", 20)
    server.flushall()
    naive = Streams(valkey.url, partitions=16)
    record_many(shop, 120)
    monkeypatch.setattr(naive, "prepare", damaging_after(naive, 2, server.flushall))
    with own_connection(shop) as connection:
        Relay(shop, naive, connection).drain()
    assert not all_arrived(naive, shop)


def test_a_flush_of_an_idle_server_is_repaired_by_the_next_drain(
    shop, streams, relay, record, server
):
    record("a", 1)
    relay.drain()
    server.flushall()
    assert relay.drain() == 1
    assert all_arrived(streams, shop)


def test_a_lost_stream_is_sent_again(shop, streams, relay, server):
    record_many(shop, 120)
    relay.drain()
    server.delete(f"{{{shop.label}}}:events:{_used_partition(streams, shop)}")
    relay.drain()
    assert all_arrived(streams, shop)


def test_a_foreign_entry_is_removed_and_no_event_is_lost(shop, streams, relay, record, server):
    record("a", 1)
    relay.drain()
    key = f"{{{shop.label}}}:events:{_used_partition(streams, shop)}"
    server.xadd(key, {"event": "not ours"}, id="99999999999999-0")
    record("a", 2)
    relay.drain()
    assert all_arrived(streams, shop)


def _used_partition(streams: Streams, shop: Any) -> int:
    return next(iter(streams.cursor(shop.label).tops))


def test_a_lost_cursor_repeats_no_event(shop, streams, relay, server):
    record_many(shop, 50)
    relay.drain()
    server.delete(f"{{{shop.label}}}:cursor")
    relay.drain()
    assert all_arrived(streams, shop)


def test_a_stalled_relay_repeats_no_event_of_another_relay(shop, streams, relay, record):
    record("a", 1)
    relay.drain()
    with own_connection(shop) as connection:
        other = Relay(shop, streams, connection)
        record("a", 2)
        other.drain()
    record("a", 3)
    relay.drain()
    assert all_arrived(streams, shop)
    assert len(in_streams(streams, shop.label)) == 3


def test_a_cursor_of_another_database_publishes_nothing(shop, streams, record):
    streams.publish(shop.label, expected="", at="777-1", tick=777)
    record("a", 1)
    with own_connection(shop) as connection, pytest.raises(CursorUnknown, match="777-1"):
        Relay(shop, streams, connection)
    assert in_streams(streams, shop.label) == []


def test_a_changed_number_of_partitions_is_refused(shop, streams, relay, valkey):
    other = Streams(valkey.url, partitions=8)
    with own_connection(shop) as connection, pytest.raises(DatabaseDiffers, match="16"):
        Relay(shop, other, connection)


def test_a_row_recorded_with_more_partitions_is_named(shop, streams, relay, record):
    record("a", 1)
    shop.event._default_manager.update(partition=20)
    row = shop.event._default_manager.get().pk
    with pytest.raises(StreamsMisconfigured, match=f"row {row} has partition 20"):
        relay.drain()
    shop.event._default_manager.update(partition=4)  # corrected, as docs/operations.md says
    assert relay.drain() == 1
    assert all_arrived(streams, shop)


def test_a_second_relay_of_a_service_returns_immediately(shop, streams):
    with own_connection(shop) as connection:
        assert relaying.try_lock(connection, shop.label)
        assert run(shop, streams, stopping=threading.Event()) is Outcome.ALREADY_RUNNING


def test_relays_of_two_services_run_at_the_same_time(shop, streams):
    with own_connection(shop) as connection:
        assert relaying.try_lock(connection, "another service")
        assert run(shop, streams, stopping=threading.Event(), linger_seconds=0) is Outcome.LINGERED


def test_a_nudge_wakes_the_relay_and_a_stop_ends_it(shop, streams, record):
    ended: list[Outcome] = []

    stopping = threading.Event()

    def work() -> None:
        ended.append(run(shop, streams, stopping=stopping))
        connections.close_all()

    working = threading.Thread(target=work)
    working.start()
    record("a", 1)
    eventually(lambda: all_arrived(streams, shop), within_seconds=10, what="the event")
    stopping.set()
    streams.nudge(shop.label)
    working.join(10)
    assert ended == [Outcome.STOPPED]


@pytest.mark.parametrize("drains", [1, 3])
@pytest.mark.parametrize("after", ["its start", "a nudge"])
def test_a_commit_after_a_drain_is_found_without_a_nudge(shop, streams, monkeypatch, after, drains):
    """After a nudge the relay polls for a time, in which writers send no second nudge."""
    monkeypatch.setattr(relaying, "NUDGE_WAIT_SECONDS", 30.0)  # only polling finds the row
    # The time is longer than the test, or 0, so that a slow machine doesn't end the polling.
    seconds = 60.0 if after == "its start" else 0.0
    monkeypatch.setattr(relaying, "CHECKING_SECONDS", seconds)
    monkeypatch.setattr(recorder.streams, "nudge", lambda _label: None)
    stopping, drain, wait_nudge = threading.Event(), Relay.drain, streams.wait_nudge
    waits, left = threading.Event(), [drains if after == "its start" else 0]

    def drain_then_commit(relay: Relay) -> int:
        number = drain(relay)
        left[0] -= 1
        if left[0] == 0:
            record_many(shop, 1)
        return number

    def poll_from_now(label: str, *, timeout_seconds: float) -> bool:
        waits.set()
        nudged = wait_nudge(label, timeout_seconds=timeout_seconds)
        left[0] = drains
        monkeypatch.setattr(relaying, "CHECKING_SECONDS", 60.0)
        return nudged

    def work() -> None:
        run(shop, streams, stopping=stopping)
        connections.close_all()

    monkeypatch.setattr(Relay, "drain", drain_then_commit)
    monkeypatch.setattr(streams, "wait_nudge", poll_from_now)
    working = threading.Thread(target=work)
    working.start()
    try:
        if after == "a nudge":
            assert waits.wait(10)
            streams.nudge(shop.label)
        eventually(
            lambda: bool(in_streams(streams, shop.label)), within_seconds=10, what="the event"
        )
    finally:
        stopping.set()
        streams.nudge(shop.label)
        working.join(10)


def test_the_relay_publishes_the_recorded_text(shop, streams, relay, record):
    recorded = record("a", 1)
    relay.drain()
    assert published(shop.event) == [recorded]
    assert in_streams(streams, shop.label)[0][1].decode() == recorded.encode()


def test_a_relay_ends_when_its_running_server_may_evict_events(
    shop, streams, server, record, monkeypatch
):
    monkeypatch.setattr(relaying, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(relaying, "NUDGE_WAIT_SECONDS", 0.05)

    stopping = threading.Event()

    def work() -> None:
        try:
            run(shop, streams, stopping=stopping)
        finally:
            connections.close_all()

    record()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        eventually(lambda: streams.cursor(shop.label).at, within_seconds=10, what="the event sent")
        server.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StreamsMisconfigured, match="maxmemory-policy is allkeys-lru"):
                running.result(10)
        finally:
            stopping.set()
            server.config_set("maxmemory-policy", "noeviction")
