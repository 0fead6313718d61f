"""The same tests for the real streams and for the in-memory streams."""

import inspect
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import redis

from outbox.errors import (
    CursorMoved,
    StreamDamaged,
    StreamsMisconfigured,
    StreamsUnavailable,
)
from outbox.streams import Entry, Size, Streams
from outbox.testing import MemoryStreams
from tests.support.freezing import frozen
from tests.support.waiting import eventually

START = dict.fromkeys(range(16), "0-0")


class RealFaults:
    """Damages the streams of a real server, or of a cluster."""

    def __init__(self, client: redis.Redis | redis.RedisCluster) -> None:
        self.redis: Any = client

    def flush(self) -> None:
        self.redis.flushall()

    def drop(self, label: str, partition: int) -> None:
        self.redis.delete(f"{{{label}}}:events:{partition}")

    def add_foreign(self, label: str, partition: int, entry_id: str, body: bytes) -> None:
        self.redis.xadd(f"{{{label}}}:events:{partition}", {"event": body}, id=entry_id)


@pytest.fixture(params=["real", "cluster", "memory"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """The streams, and the object that damages them."""
    if request.param == "memory":
        memory = MemoryStreams()
        yield memory, memory
    elif request.param == "cluster":
        streams = request.getfixturevalue("cluster_streams")
        with request.getfixturevalue("cluster").client() as client:
            yield streams, RealFaults(client)
    else:
        streams = request.getfixturevalue("streams")
        with redis.Redis.from_url(request.getfixturevalue("valkey").url) as client:
            yield streams, RealFaults(client)


def read(streams: Any, after: dict[int, str] | None = None, **options: Any) -> list[Entry]:
    options = {"count": 100, "block_seconds": 0.01} | options
    batch = streams.read("shop", after or START, **options)
    return batch.entries if batch else []


def test_published_entries_are_read_in_order(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-3", tick=5, rows=[(1, 0, "a"), (3, 0, "b")])
    streams.publish("shop", expected="5-3", at="6-9", tick=6, rows=[(2, 0, "c"), (9, 4, "d")])
    assert sorted(read(streams), key=lambda entry: entry.id) == [
        Entry(0, "5-1", b"a"),
        Entry(0, "5-3", b"b"),
        Entry(0, "6-2", b"c"),
        Entry(4, "6-9", b"d"),
    ]
    assert read(streams, START | {0: "5-3", 4: "6-9"}) == [Entry(0, "6-2", b"c")]


def test_the_largest_row_id_and_any_text_arrive_unchanged(place):
    streams, _ = place
    last = 2**63 - 1
    text = "\N{SNOWMAN}\N{MUSHROOM} " * 70_000  # longer than MessagePack's short length formats
    rows = [(last - 1, 0, text), (last, 0, "")]
    streams.publish("shop", expected="", at=f"5-{last}", tick=5, rows=rows)
    assert [(entry.id, entry.body) for entry in read(streams)] == [
        (f"5-{last - 1}", text.encode()),
        (f"5-{last}", b""),
    ]


def test_count_limits_the_entries_of_each_partition(place):
    streams, _ = place
    rows = [(n, n % 2, str(n)) for n in range(1, 9)]
    streams.publish("shop", expected="", at="5-8", tick=5, rows=rows)
    assert len(read(streams, count=3)) == 6


def test_a_row_of_a_partition_that_does_not_exist_is_named_and_confirms_nothing(place):
    streams, _ = place
    rows = [(1, 15, "a"), (2, 16, "b")]
    with pytest.raises(StreamsMisconfigured, match="row 2 has partition 16"):
        streams.publish("shop", expected="", at="5-2", tick=5, rows=rows)
    assert streams.cursor("shop").at == ""
    assert read(streams) == []


def test_the_cursor_holds_the_state_of_publishing(place):
    streams, _ = place
    assert streams.cursor("shop").at == ""
    streams.publish(
        "shop", expected="", at="5-9", tick=5, rows=[(1, 2, "a")], snapshot="3:9:", origin="7.1"
    )
    cursor = streams.cursor("shop")
    assert (cursor.at, cursor.tops, cursor.snapshot, cursor.origin) == (
        "5-9",
        {2: "5-1"},
        "3:9:",
        "7.1",
    )


def test_publishing_from_another_cursor_is_refused_and_writes_nothing(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    with pytest.raises(CursorMoved) as refused:
        streams.publish("shop", expected="4-1", at="6-1", tick=6, rows=[(1, 1, "b")])
    assert refused.value.found == "5-1"
    assert [entry.id for entry in read(streams)] == ["5-1"]


def test_an_entry_that_exists_is_not_added_again(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-2", tick=5, rows=[(1, 0, "a"), (2, 0, "b")])
    streams.rewind("shop", expected="5-2")
    assert streams.cursor("shop").at == ""
    streams.publish(
        "shop", expected="", at="5-3", tick=5, rows=[(1, 0, "a"), (2, 0, "b"), (3, 0, "c")]
    )
    assert [entry.id for entry in read(streams)] == ["5-1", "5-2", "5-3"]


def test_sending_an_entry_again_lowers_no_top(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b"), (3, 1, "c")])
    streams.rewind("shop", expected="6-2")
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    assert streams.cursor("shop").tops == {0: "6-2", 1: "6-3"}
    assert sorted(entry.id for entry in read(streams)) == ["5-1", "6-2", "6-3"]


def test_a_late_rewind_changes_nothing(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    streams.rewind("shop", expected="4-1")
    assert streams.cursor("shop").at == "5-1"


def test_a_flushed_server_refuses_the_next_chunk(place):
    streams, faults = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    faults.flush()
    with pytest.raises(CursorMoved) as refused:
        streams.publish("shop", expected="5-1", at="5-2", tick=5, rows=[(2, 0, "b")])
    assert refused.value.found == ""
    assert read(streams) == []


def test_a_lost_stream_is_reported_before_any_write(place):
    streams, faults = place
    streams.publish("shop", expected="", at="5-2", tick=5, rows=[(1, 0, "a"), (2, 7, "b")])
    assert streams.sizes("shop")[7] == Size(1, 1)
    faults.drop("shop", 7)
    assert streams.sizes("shop")[7] == Size(0, 0)
    with pytest.raises(StreamDamaged, match="events:7") as refused:
        streams.publish("shop", expected="5-2", at="6-3", tick=6, rows=[(3, 0, "c")])
    assert not refused.value.foreign
    assert [entry.id for entry in read(streams)] == ["5-1"]


def test_a_foreign_entry_ahead_of_ours_is_reported_as_foreign(place):
    streams, faults = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    faults.add_foreign("shop", 0, "9-0", b"foreign")
    with pytest.raises(StreamDamaged, match="events:0") as refused:
        streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b")])
    assert refused.value.foreign
    streams.rewind("shop", expected="5-1", drop=refused.value.key)
    streams.publish("shop", expected="", at="6-2", tick=5, rows=[(1, 0, "a")])
    assert [entry.id for entry in read(streams)] == ["5-1"]


def test_an_entry_beyond_the_cursor_is_not_returned_to_consumers(place):
    streams, faults = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    faults.add_foreign("shop", 0, "5-9", b"foreign")
    assert [entry.id for entry in read(streams)] == ["5-1"]


def test_another_number_of_partitions_is_refused(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    streams.partitions = 8
    with pytest.raises(StreamsMisconfigured, match="16 partitions"):
        streams.cursor("shop")
    with pytest.raises(StreamsMisconfigured, match="16 partitions"):
        streams.publish("shop", expected="5-1", at="6-1", tick=6)


def test_services_have_separate_streams(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    assert streams.cursor("bank").at == ""
    assert streams.read("bank", START, count=10, block_seconds=0.01) is None
    assert (streams.entries("shop"), streams.entries("bank")) == (1, 0)


def test_at_most_one_nudge_is_queued(place):
    streams, _ = place
    assert streams.nudge("shop")
    assert streams.nudge("shop")
    assert streams.wait_nudge("shop", timeout_seconds=1)
    assert not streams.wait_nudge("shop", timeout_seconds=0.01)


def test_a_nudge_wakes_a_waiting_relay(place):
    streams, _ = place
    woken: list[bool] = []
    waiting = threading.Thread(
        target=lambda: woken.append(streams.wait_nudge("shop", timeout_seconds=10))
    )
    waiting.start()
    streams.nudge("shop")
    waiting.join(10)
    assert woken == [True]


def test_an_empty_server_gets_the_floor_with_the_first_entries(place):
    streams, faults = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")], floor=4)
    assert streams.cursor("shop").floor == 4
    faults.flush()
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")], floor=4)
    assert streams.cursor("shop").floor == 4


def test_a_waiting_reader_gets_entries_published_meanwhile(place):
    streams, _ = place
    found: list[Entry] = []

    def wait() -> None:
        # The server may wake a reader before it writes the cursor; the next read gets the entry.
        eventually(
            lambda: found.extend(read(streams, block_seconds=1)) or found,
            within_seconds=10,
            what="an entry",
        )

    waiting = threading.Thread(target=wait)
    waiting.start()
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    waiting.join(10)
    assert [entry.id for entry in found] == ["5-1"]


def test_lag_is_counted_across_partitions_and_steps(place):
    streams, _ = place
    rows = [(n, n % 2, "x") for n in range(1, 4001)]
    streams.publish("shop", expected="", at="5-4000", tick=5, rows=rows)
    assert streams.sizes("shop")[:3] == [Size(2000, 2000), Size(2000, 2000), Size(0, 0)]
    assert streams.count_after("shop", START) == (4000, "5-1")
    assert streams.count_after("shop", START | {0: "5-4000"}) == (2000, "5-1")
    assert streams.count_after("shop", START | {0: "5-4000", 1: "5-3999"}) == (0, "")
    counted = {
        most: streams.count_after("shop", START, at_most=most) for most in (0, 1, 1000, 1001)
    }
    assert counted == {0: (0, ""), 1: (2000, "5-1"), 1000: (2000, "5-1"), 1001: (4000, "5-1")}


def test_the_cursor_names_the_last_complete_tick(place):
    streams, _ = place
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    assert streams.cursor("shop").complete == 0
    streams.publish("shop", expected="5-1", at="5-9", tick=5, rows=[(2, 0, "b")], snapshot="3:9:")
    assert streams.cursor("shop").complete == 5
    streams.rewind("shop", expected="5-9")
    assert streams.cursor("shop").complete == 0


def test_entries_after_a_tick_are_found_in_every_partition(place):
    streams, faults = place
    rows = [(n, n % 3, str(n)) for n in range(1, 3001)]
    streams.publish("shop", expected="", at="5-3000", tick=5, rows=rows)
    streams.publish("shop", expected="5-3000", at="6-3002", tick=6, rows=[(3001, 0, "x")])
    faults.add_foreign("shop", 0, "9-9", b"foreign")
    assert len(list(streams.entries_after("shop", 0))) == 3001
    assert [entry.id for entry in streams.entries_after("shop", 5)] == ["6-3001"]
    assert list(streams.entries_after("shop", 6)) == []


def test_subscribers_confirm_their_positions(place):
    streams, _ = place
    assert streams.confirmations("shop") == {}
    streams.confirm("shop", "bank.ledger", {0: 5, 1: 6})
    streams.confirm("shop", "bank.ledger", {1: 7})
    streams.confirm("shop", "bank.other", {0: 1})
    confirmations = streams.confirmations("shop")
    assert {name: found.ticks for name, found in confirmations.items()} == {
        "bank.ledger": {0: 5, 1: 7},
        "bank.other": {0: 1},
    }
    names = ["bank.other", "bank.unknown", "bank.ledger"]
    assert streams.confirmed_at("shop", names) == {
        name: confirmations[name].at for name in ("bank.other", "bank.ledger")
    }
    streams.forget("shop", "bank.other")
    assert list(streams.confirmations("shop")) == ["bank.ledger"]
    assert list(streams.confirmed_at("shop", names)) == ["bank.ledger"]


def test_entries_below_the_floor_are_trimmed_and_the_floor_never_sinks(place):
    streams, _ = place
    for tick in range(1, 1001):
        at = f"{tick}-{tick}"
        before = f"{tick - 1}-{tick - 1}" if tick > 1 else ""
        streams.publish("shop", expected=before, at=at, tick=tick, rows=[(tick, 0, "a")])
    streams.prune("shop", floor=900)
    # The server drops whole nodes of a stream, so some entries below the floor may remain.
    assert 100 <= streams.entries("shop") <= 250
    streams.prune("shop", floor=800)
    assert streams.cursor("shop").floor == 900
    streams.publish("shop", expected="1000-1000", at="1001-1", tick=1001, rows=[(1, 0, "b")])


def test_a_renewed_lease_is_kept_and_a_released_one_is_gone(place):
    streams, _ = place
    assert streams.heartbeat("shop", "one", lease_seconds=60) == ["one"]
    assert sorted(streams.heartbeat("shop", "two", lease_seconds=60)) == ["one", "two"]
    streams.leave("shop", "one")
    assert streams.heartbeat("shop", "two", lease_seconds=60) == ["two"]


def test_a_lease_expires_unless_renewed(place):
    streams, _ = place
    streams.heartbeat("shop", "one", lease_seconds=0.001)
    eventually(lambda: streams.members("shop") == [], within_seconds=5, what="no member is live")
    eventually(
        lambda: streams.heartbeat("shop", "two", lease_seconds=60) == ["two"],
        within_seconds=5,
        what="the lease expires",
    )
    assert streams.members("shop") == ["two"]


# -- real servers only ----------------------------------------------------------------------


def test_a_key_of_another_type_is_reported_by_name(streams: Streams, valkey: Any):
    with redis.Redis.from_url(valkey.url) as client:
        client.set("{shop}:events:3", "something else")
    with pytest.raises(StreamsMisconfigured, match="events:3"):
        streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    assert streams.cursor("shop").at == ""


def test_every_call_names_the_key_of_another_type(streams: Streams, valkey: Any):
    keys: dict[str, list[Callable[[], object]]] = {
        "events:3": [
            lambda: read(streams),
            lambda: streams.sizes("shop"),
            lambda: streams.count_after("shop", START),
            lambda: streams.oldest_after("shop", START),
            lambda: list(streams.entries_of("shop", 3)),
            lambda: streams.delete("shop", 3, ["5-1"]),
            lambda: streams.prune("shop", floor=4),
        ],
        "cursor": [lambda: streams.cursor("shop"), lambda: streams.peek_cursor("shop")],
        "nudge": [lambda: streams.wait_nudge("shop", timeout_seconds=0.01)],
        "subscribers": [
            lambda: streams.confirm("shop", "bank.ledger", {0: 5}),
            lambda: streams.confirmations("shop"),
        ],
        "confirmed:bank": [
            lambda: streams.confirm("shop", "bank.ledger", {0: 5}),
            lambda: streams.confirmations("shop"),
            lambda: streams.confirmed_at("shop", ["bank.ledger"]),
            lambda: streams.forget("shop", "bank.ledger"),
        ],
        "members": [
            lambda: streams.heartbeat("shop", "one", lease_seconds=60),
            lambda: streams.leave("shop", "one"),
            lambda: streams.members("shop"),
        ],
    }
    for name, uses in keys.items():
        key = f"{{shop}}:{name}"
        with redis.Redis.from_url(valkey.url) as client:
            client.flushdb()
            client.set(key, "something else")
            for use in uses:
                with pytest.raises(StreamsMisconfigured, match=f"the key {re.escape(key)} on"):
                    use()


def test_streams_in_memory_accept_every_call_of_the_real_streams():
    for name, method in public_methods(Streams).items():
        theirs = public_methods(MemoryStreams)[name]
        inspect.signature(theirs).bind(**dict.fromkeys(inspect.signature(method).parameters))


def public_methods(of: type) -> dict[str, Callable[..., object]]:
    return {name: each for name, each in vars(of).items() if name[0] != "_" and callable(each)}


def test_a_server_that_may_evict_is_refused(streams: Streams, valkey: Any):
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StreamsMisconfigured, match="noeviction"):
                streams.check()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    streams.check()


def test_a_full_server_accepts_nothing_and_loses_nothing(streams: Streams, valkey: Any):
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StreamsUnavailable, match="takes no writes"):
                streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b")])
        finally:
            client.config_set("maxmemory", "0")
    streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b")])
    assert [entry.id for entry in read(streams)] == ["5-1", "6-2"]


@pytest.mark.parametrize(
    "answer",
    [
        "UNBLOCKED force unblock from blocking operation, instance state changed",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN Hash slot not served",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MISCONF Errors writing to the AOF file",
        "LOADING the dataset is in memory soon",
        "BUSY a script is running",
    ],
    ids=lambda answer: answer.split()[0],
)
def test_a_transient_answer_means_that_streams_are_unavailable(
    streams: Streams, valkey: Any, monkeypatch: pytest.MonkeyPatch, answer: str
):
    with redis.Redis.from_url(valkey.url) as client:
        refusing = client.register_script(f'return redis.error_reply("{answer}")')
        monkeypatch.setattr(streams, "_publish", refusing)
        with pytest.raises(StreamsUnavailable, match=answer.partition(" ")[2][:20]):
            streams.publish("shop", expected="", at="5-1", tick=5)


def test_a_server_without_its_replicas_refuses_writes_until_they_return(
    streams: Streams, valkey: Any
):
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(StreamsUnavailable):
                streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
        finally:
            client.config_set("min-replicas-to-write", 0)
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    assert [entry.id for entry in read(streams)] == ["5-1"]


def test_a_server_that_becomes_a_replica_is_unavailable_to_a_waiting_relay(
    streams: Streams, valkey: Any
):
    with redis.Redis.from_url(valkey.url) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(streams.wait_nudge, "shop", timeout_seconds=10)
        try:
            eventually(
                lambda: client.info("clients")["blocked_clients"],
                within_seconds=10,
                what="the relay waits",
            )
            client.execute_command("REPLICAOF", "127.0.0.1", "9")
            with pytest.raises(StreamsUnavailable, match="UNBLOCKED"):
                waiting.result(10)
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


def test_a_wrong_password_is_reported(valkey: Any):
    streams = Streams(valkey.url.replace(valkey.password, "wrong"), partitions=16)
    with pytest.raises(StreamsMisconfigured, match="refuses the login"):
        streams.check()


def test_a_nudge_to_a_dead_server_raises_no_error(unused_url: str):
    streams = Streams(unused_url, partitions=16)
    assert not streams.nudge("shop")
    with pytest.raises(StreamsUnavailable):
        streams.open_nudge_connection()
    with pytest.raises(StreamsUnavailable):
        streams.cursor("shop")


def test_a_nudge_connection_wakes_a_relay_and_queues_one_nudge(streams: Streams, valkey: Any):
    with (
        closing(streams.open_nudge_connection()) as line,
        redis.Redis.from_url(valkey.url) as client,
    ):

        def arrived() -> int:
            """The server runs one script for each nudge."""
            found: Any = client.info("commandstats")
            return int(found.get("cmdstat_eval", {"calls": 0})["calls"])

        before = arrived()
        for _ in range(1000):
            line.send("shop")
        eventually(lambda: arrived() == before + 1000, within_seconds=30, what="all nudges arrive")
        assert client.llen("{shop}:nudge") == 1
        assert streams.wait_nudge("shop", timeout_seconds=10)
        assert not streams.wait_nudge("shop", timeout_seconds=0.01)
        line.send("shop")
        assert streams.wait_nudge("shop", timeout_seconds=10)


def test_a_closed_nudge_connection_raises_at_the_next_nudge(streams: Streams, valkey: Any):
    with (
        closing(streams.open_nudge_connection()) as line,
        redis.Redis.from_url(valkey.url) as client,
    ):
        line.send("shop")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(StreamsUnavailable, match="doesn't answer"):
            line.send("shop")


def test_a_connection_closed_by_the_server_is_reopened(streams: Streams, valkey: Any):
    at = "1-1"
    streams.publish("shop", expected="", at=at, tick=1, rows=[(1, 0, "one")])
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    found = streams.read("shop", {0: "0-0"}, count=10, block_seconds=0.1)
    assert found
    assert [entry.body for entry in found.entries] == [b"one"]


def test_nudges_to_a_hanging_server_do_not_block(streams: Streams, valkey: Any):
    with closing(streams.open_nudge_connection()) as line, frozen([valkey.pid]):
        for _ in range(1000):
            line.send("shop")
    assert streams.wait_nudge("shop", timeout_seconds=10)


@pytest.fixture
def unused_url() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
