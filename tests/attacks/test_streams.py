"""Each service has a user of the stream server. With its address, an intruder in one service can
change nothing of the other service: neither events, nor confirmations, nor tasks."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import redis
from kombu import Connection
from redis.exceptions import NoPermissionError, ResponseError

from config.celery import app
from outbox import tables
from outbox.errors import StreamsMisconfigured
from outbox.keys import COMMANDS, confirmed, subscribers
from outbox.publishing import relay
from outbox.streams import Streams
from outbox.streams.client import MOST_SERVICES
from placement.ring import process as ring_process
from placement.ring.arrangement import Place
from placement.ring.cache import RingCache
from placement.ring.nodes import EpochStore
from stack import users
from stack.servers import Valkey
from tests.support.surroundings import SERVICES, SHAPE

PASSWORD = "for-tests"
BOTH_WAYS = [("accounts", "orders"), ("orders", "accounts")]
NOTHING = "return 0"
# Every kind of write, to any key. The server checks the right before the type of the key.
WRITES = (
    ("DEL", "{key}"),
    ("UNLINK", "{key}"),
    ("EXPIRE", "{key}", "1"),
    ("RENAME", "{key}", "{own}"),
    ("COPY", "{own}", "{key}", "REPLACE"),
    ("SET", "{key}", "forged"),
    ("XADD", "{key}", "*", "event", "forged"),
    ("XTRIM", "{key}", "MAXLEN", "0"),
    ("XDEL", "{key}", "1-1"),
    ("XGROUP", "CREATE", "{key}", "mine", "0"),
    ("HSET", "{key}", "at", "1-1"),
    ("HDEL", "{key}", "at"),
    ("RPUSH", "{key}", "forged"),
    ("LPUSH", "{key}", "forged"),
    ("BLPOP", "{key}", "0.01"),
    ("SADD", "{key}", "forged"),
    ("SREM", "{key}", "orders"),
    ("ZADD", "{key}", "1", "forged"),
    ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "{key}"),
    ("EVAL", "return redis.call('DEL', ARGV[1])", "0", "{key}"),
    ("EVAL", NOTHING, "1", "{key}"),
)
SERVER = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "GET", "requirepass"),
    ("ACL", "SETUSER", "intruder", "on", "nopass", "+@all", "~*"),
    ("ACL", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "127.0.0.1", "9"),
    ("PUBLISH", "/1.celery.pidbox", "{}"),
    ("SHUTDOWN", "NOSAVE"),
)

Client = Callable[..., redis.Redis]


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Client]:
    """Returns a function that connects as a user, or as the administrator. The server has the
    users of the stack."""
    opened: list[redis.Redis] = []

    def connect(user: str = "") -> redis.Redis:
        url = valkey.url_of(user, PASSWORD) if user else valkey.url
        opened.append(redis.Redis.from_url(url))
        return opened[-1]

    administrator = connect()
    rules = users.all_rules(lab=True)
    for name, rights in rules.items():
        administrator.execute_command(
            "ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rights
        )
    administrator.flushall()
    yield connect
    administrator.execute_command("ACL", "DELUSER", *rules)
    administrator.flushall()
    for each in opened:
        each.close()


@pytest.fixture
def streams_of(valkey: Valkey, client: Client) -> Iterator[Callable[[str], Streams]]:
    opened: list[Streams] = []

    def connect(user: str) -> Streams:
        opened.append(Streams(valkey.url_of(user, PASSWORD), partitions=2))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def use_everything(own: Streams, label: str, peer: Streams, other: str) -> None:
    """Do everything that relay, retention, erasures, status and consumers of both services do."""
    own.check()
    own.check_rights(label)
    own.publish(label, expected="", at="1-2", tick=1, rows=[(1, 0, "a"), (2, 1, "b")], floor=0)
    own.publish(label, expected="1-2", at="1-9", tick=1, rows=[(2, 1, "b")], snapshot="1:1:")
    assert own.nudge(label)
    assert own.wait_nudge(label, timeout_seconds=1)
    nudges = own.open_nudge_connection()
    nudges.send(label)
    assert own.wait_nudge(label, timeout_seconds=5)
    nudges.close()
    assert own.heartbeat(f"{label}.saga", "me", lease_seconds=9) == ["me"]
    assert own.members(f"{label}.saga") == ["me"]
    own.leave(f"{label}.saga", "me")
    own.confirm(label, f"{label}.view", {0: 1, 1: 1})
    # The other service reads.
    batch = peer.read(label, {0: "0-0", 1: "0-0"}, count=10, block_seconds=0.1)
    assert batch is not None
    assert [entry.body for entry in batch.entries] == [b"a", b"b"]
    assert peer.count_after(label, {0: "0-0", 1: "0-0"}) == (2, "1-1")
    assert peer.oldest_after(label, {0: "0-0", 1: "0-0"}) == "1-1"
    assert peer.entries(label) == len(list(peer.entries_after(label, 0))) == 2
    peer.confirm(label, f"{other}.saga", {0: 1, 1: 1})
    # The owner prunes, erases, and sends again.
    assert set(own.confirmations(label)) == {f"{label}.view", f"{other}.saga"}
    own.forget(label, f"{other}.saga")
    assert own.delete(label, 0, ["1-1"]) == 1
    own.prune(label, floor=1)
    own.rewind(label, expected="1-9", drop=f"{{{label}}}:events:1")


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_services_user_has_the_rights_that_the_outbox_needs_and_no_others(
    client: Client, streams_of: Callable[[str], Streams], service: str, other: str
) -> None:
    administrator = client()
    administrator.script_flush()
    administrator.config_resetstat()
    own = streams_of(service)
    use_everything(own, service, streams_of(other), other)
    second: Any = client(service)
    second.execute_command("SELECT", "1")
    assert own.is_reachable()
    found = administrator.info("commandstats")
    used = {str(name).removeprefix("cmdstat_") for name in found}
    # Only a client of a cluster uses it: tests/integration/outbox/test_cluster.py.
    assert set(COMMANDS) - used == {"cluster|slots"}


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_can_write_no_key_of_the_other(
    client: Client, streams_of: Callable[[str], Streams], service: str, other: str
) -> None:
    administrator = client()
    theirs = streams_of(other)
    theirs.publish(other, expected="", at="1-1", tick=1, rows=[(1, 0, "a"), (2, 1, "b")])
    theirs.nudge(other)
    theirs.heartbeat(f"{other}.saga", "them", lease_seconds=60)
    theirs.confirm(other, f"{other}.view", {0: 1})
    own = streams_of(service)
    own.confirm(other, f"{service}.saga", {0: 1})
    administrator.lpush(f"broker:{other}:{other}", "a task")
    allowed = {confirmed(other, by=service), subscribers(other)}
    keys = {key.decode() for key in administrator.scan_iter()} | {f"{{{other}}}:new"}
    before = {key: administrator.dump(key) for key in keys}
    assert len(keys) == 10
    for user in (service, users.broker_user(service), users.RING):
        intruder = client(user)
        for key in keys - (allowed if user == service else set()):
            for words in WRITES:
                call = [word.format(key=key, own=f"{{{service}}}:mine") for word in words]
                with pytest.raises(ResponseError, match=r"(?i)no permissions|ACL failure"):
                    intruder.execute_command(*call)
    assert {key: administrator.dump(key) for key in keys} == before


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_can_only_subscribe_and_confirm_at_the_other(
    client: Client, service: str, other: str
) -> None:
    intruder = client(service)
    own = {"SADD": subscribers(other), "HSET": confirmed(other, by=service)}
    intruder.sadd(own["SADD"], service)
    for (command, key), words in product(own.items(), WRITES):
        if words[0] != command:
            with pytest.raises(ResponseError, match=r"(?i)no permissions|ACL failure"):
                intruder.execute_command(*(word.format(key=key, own="x") for word in words))


@pytest.mark.parametrize("user", [*users.all_rules(lab=False)])
def test_no_user_may_change_the_server(client: Client, user: str) -> None:
    intruder = client(user)
    for words in SERVER:
        with pytest.raises(NoPermissionError):
            intruder.execute_command(*words)


def test_a_forged_confirmation_for_another_service_is_ignored(
    client: Client, streams_of: Callable[[str], Streams]
) -> None:
    orders = streams_of("orders")
    orders.confirm("accounts", "orders.saga", {0: 7, 1: 7})
    forged: Any = {
        "accounts.credit:0": "9",
        "orders.bad:0": "not a number",
        "orders.bad:1": "9" * 30,
        "orders.bad:99": "1",
        "orders.bad:": "1",
        b"orders.\xff": "1",
        "orders.\0:0": "1",  # PostgreSQL couldn't store these names, and retention would stop
        f"orders.{'x' * 127}:0": "1",
        "orders.saga:at": "8" + "9" * 18,
    }
    client("orders").hset(confirmed("accounts", by="orders"), mapping=forged)
    (name, found), *others = streams_of("accounts").confirmations("accounts").items()
    assert (name, found.ticks, others) == ("orders.saga", {0: 7, 1: 7}, [])


def test_a_producer_reads_a_bounded_number_of_invented_names(
    client: Client, streams_of: Callable[[str], Streams]
) -> None:
    intruder, administrator, accounts = client("orders"), client(), streams_of("accounts")
    streams_of("orders").confirm("accounts", "orders.saga", {0: 7, 1: 7})
    intruder.sadd(subscribers("accounts"), *map(str, range(2000)))
    assert "orders.saga" in accounts.confirmations("accounts", services={"orders"})
    forged: Any = dict.fromkeys(range(20_000), "1")
    intruder.hset(confirmed("accounts", by="orders"), mapping=forged)
    administrator.config_resetstat()
    found = accounts.confirmations("accounts", subscribers={"orders.saga"})
    assert found["orders.saga"].ticks == {0: 7, 1: 7}
    calls = {name: each["calls"] for name, each in administrator.info("commandstats").items()}
    assert calls["cmdstat_sscan"] <= 3
    assert calls["cmdstat_hscan"] <= MOST_SERVICES + 2


def test_a_user_of_the_broker_has_only_the_queues_of_its_deployment(
    client: Client, valkey: Valkey
) -> None:
    def queue(prefix: str) -> Any:
        url = valkey.url_of("accounts-broker", PASSWORD, database=1)
        options = {"global_keyprefix": prefix}
        return Connection(url, transport_options=options).SimpleQueue("work")

    mine = queue("broker:accounts:")
    mine.put({"task": "mine"})
    message = mine.get(timeout=5)
    mine.channel.qos.restore_visible(interval=1)  # a worker calls it regularly
    message.requeue()
    message = mine.get(timeout=5)
    message.ack()
    assert message.payload == {"task": "mine"}
    mine.close()
    for prefix in ("broker:orders:", ""):
        with pytest.raises(NoPermissionError):
            queue(prefix).put({"task": "forged"})


@pytest.mark.parametrize("name", ["ring", "lab-ring"])
def test_the_user_of_the_ring_stores_its_members(client: Client, valkey: Valkey, name: str) -> None:
    store = EpochStore(valkey.url_of(users.RING, PASSWORD), name=name)
    client().script_flush()
    assert store.swap(None, "a view")
    assert store.read() == "a view"


def view_with(name: str, *, hours: int = 1) -> str:
    """A view of one node, later than the view of every process."""
    epoch = time.time_ns() // 1_000_000 + hours * 3_600_000
    return json.dumps({"epoch": epoch, "nodes": {name: ["up", epoch, 0, 0, ""]}, "past": []})


@pytest.mark.parametrize(
    "text",  # called in the test, because the epochs depend on the time
    [
        lambda: '{"epoch":1e999,"nodes":{},"past":[]}',
        lambda: "[" * 100_000,
        lambda: view_with("h:notaport/0"),
        lambda: view_with("a..b:1/0"),
        lambda: view_with("a\ud800:1/0"),
        lambda: view_with("127.0.0.1:1/0", hours=24 * 365 * 1000),
        lambda: view_with("127.0.0.1:1/0"),  # a valid view; no server listens there
    ],
    ids=["infinite", "deep", "port", "label", "surrogate", "future", "elsewhere"],
)
def test_no_write_of_the_rings_user_makes_a_cache_raise(
    client: Client, valkey: Valkey, patient_ring: None, text: Callable[[], str]
) -> None:
    def process() -> RingCache:
        ring_process.rings.clear()
        store = valkey.url_of(users.RING, PASSWORD)
        return RingCache([valkey.url], {"OPTIONS": {"STORE": store}})

    running = process()
    running.set("key", "before")
    [node] = running.ring.urls
    client(users.RING).set("{ring}:view", text())

    for cache in (running, process()):
        assert cache.invalidate("key", 1)
        cache.set("key", "value")
        assert cache.get("key") == "value"
        assert cache.get_many(["key"]) == {"key": "value"}
        gone = Place("gone:1/0", 1)
        assert cache.ring.has_moved(gone, asked=time.monotonic())
        assert cache.ring.is_out(gone.node)
    view = running.ring.members.view(since=time.monotonic())
    assert view is not None
    assert view.members[node].is_up
    ring_process.rings.clear()


def test_the_broker_has_a_prefix_of_the_deployment_and_workers_obey_no_message(
    client: Client, valkey: Valkey
) -> None:
    url = valkey.url_of(users.broker_user(SHAPE), PASSWORD, database=1)
    with app.connection_for_write(url) as connection:
        app.send_task("a task", connection=connection)
    administrators = valkey.url_of("", valkey.password or "", database=1)
    with redis.Redis.from_url(administrators) as administrator:
        assert administrator.llen(f"broker:{SHAPE}:{SERVICES[0]}") == 1
    assert app.conf.worker_enable_remote_control is False


@pytest.mark.django_db(transaction=True)
def test_a_relay_without_the_rights_of_its_service_says_so_at_its_start(
    streams_of: Callable[[str], Streams],
) -> None:
    shop = next(iter(tables.every()))
    user = "orders" if shop.label != "orders" else "accounts"
    with pytest.raises(StreamsMisconfigured, match=f"the rights of {shop.label}"):
        relay.run(shop, streams_of(user), stopping=threading.Event(), linger_seconds=0)


@pytest.mark.django_db(transaction=True)
def test_a_relay_warns_once_if_its_user_may_write_the_streams_of_another_deployment(
    streams: Streams, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop = next(iter(tables.every()))
    settings.OUTBOX_PRODUCERS = (shop.label, "elsewhere")
    with caplog.at_level(logging.WARNING, logger=relay.__name__):
        for _ in range(2):
            relay.run(shop, streams, stopping=threading.Event(), linger_seconds=0)
    warnings = [line for line in caplog.messages if "may write the streams" in line]
    assert len(warnings) == 1
    assert "elsewhere" in warnings[0]
