"""Streams on a Redis Cluster of which masters die, hand over their slots or are set up wrongly."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from redis.connection import AbstractConnection

from outbox import streams as module
from outbox.errors import StreamsMisconfigured, StreamsUnavailable
from outbox.keys import rules
from outbox.publishing import relay as relaying
from outbox.publishing.relay import Relay, own_connection, run
from outbox.streams import Streams
from outbox.streams import cluster as clusters
from outbox.streams import server as servers
from tests.faults.project import Project
from tests.integration.outbox.conftest import consumer_of
from tests.integration.outbox.test_reader import Probe
from tests.integration.outbox.test_relay import in_streams
from tests.support.clusters import PASSWORD, LocalCluster, Node
from tests.support.freezing import frozen
from tests.support.waiting import eventually

T = TypeVar("T")

PATIENCE_SECONDS = 30
# The timeouts for which one quick call waits: to look up the masters, and for its own answer.
QUICK = [[servers.QUICK_TIMEOUT_SECONDS] * count for count in (1, 2)]


@pytest.fixture
def streams(cluster_streams: Streams) -> Streams:
    return cluster_streams


@pytest.fixture
def shop_master(cluster: LocalCluster, streams: Streams) -> Node:
    """The master of the service `shop`, which this client has used."""
    streams.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    master = cluster.master_of("shop")
    wait_replicated(master, cluster.replica_of(master))
    return master


def wait_replicated(master: Node, replica: Node) -> None:
    """Wait until the replica has all data: what it hasn't received is lost with its master."""
    eventually(
        lambda: (
            replica.info("replication")["slave_repl_offset"]
            == master.info("replication")["master_repl_offset"]
        ),
        within_seconds=PATIENCE_SECONDS,
        what="the replica has all data",
    )


def answers(streams: Streams) -> bool:
    try:
        streams.cursor("shop")
    except StreamsUnavailable:
        return False
    return True


def elsewhere_than(label: str, cluster: LocalCluster) -> str:
    """A service on another master."""
    names = (f"other-{number}" for number in range(100))
    return next(name for name in names if cluster.master_of(name) is not cluster.master_of(label))


def pids_of(*nodes: Node) -> list[int]:
    return [pid for node in nodes if (pid := node.pid)]


def seconds_of(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def timeouts_of(call: Callable[[], object]) -> list[float | None]:
    """The timeouts, in seconds, for which the call has waited in vain in this thread."""
    waited: list[tuple[int, float | None]] = []
    read: Any = AbstractConnection.read_response

    def reading(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return read(self, *args, **kwargs)
        except redis.TimeoutError:
            waited.append((threading.get_ident(), self.socket_timeout))
            raise

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AbstractConnection, "read_response", reading)
        call()
    return [seconds for thread, seconds in waited if thread == threading.get_ident()]


# -- setup ----------------------------------------------------------------------------------


@pytest.fixture
def long_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """New clients ask a node for 10 s: a check leaves out nodes that don't answer in time."""
    monkeypatch.setattr(servers, "LOOK_UP_TIMEOUT_SECONDS", 10.0)


@pytest.fixture
def patient(cluster: LocalCluster, streams: Streams, long_look_up: None) -> Iterator[Streams]:
    with closing(Streams(cluster.url, partitions=16)) as own:
        yield own


@pytest.mark.parametrize("kind", ["master", "replica"])
def test_a_cluster_with_a_node_that_may_evict_is_refused(
    cluster: LocalCluster, patient: Streams, kind: str
) -> None:
    patient.check()
    last = cluster.masters[-1]
    node = last if kind == "master" else cluster.replica_of(last)
    node.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(
            StreamsMisconfigured, match=f":{node.port}'s maxmemory-policy is allkeys-lru"
        ):
            patient.check()
    finally:
        node.ask("CONFIG SET", "maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("streams")
def test_the_address_of_a_single_node_is_refused(cluster: LocalCluster) -> None:
    foreign = next(node for node in cluster.masters if node is not cluster.master_of("shop"))
    with (
        closing(Streams(foreign.url, partitions=16)) as single,
        pytest.raises(StreamsMisconfigured, match="start it with redis-cluster://"),
    ):
        single.cursor("shop")


def test_the_address_of_a_node_that_has_the_keys_is_refused_before_a_failover(
    cluster: LocalCluster, shop_master: Node
) -> None:
    with closing(Streams(shop_master.url, partitions=16)) as single:
        assert single.cursor("shop").at == "5-1"
        with pytest.raises(StreamsMisconfigured, match="start it with redis-cluster://"):
            single.check()


def test_the_address_of_a_server_outside_a_cluster_is_refused(valkey: Any) -> None:
    url = valkey.url.replace("redis://", "redis-cluster://")
    with (
        closing(Streams(url, partitions=16)) as wrong,
        pytest.raises(StreamsMisconfigured, match="is no node of a Redis Cluster"),
    ):
        wrong.check()


def test_the_rules_of_a_service_are_enough_on_a_cluster(
    cluster: LocalCluster, streams: Streams
) -> None:
    cluster.set_user("shop", PASSWORD, rules(["shop"], reads=["bank"]))
    streams.publish("bank", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    with closing(Streams(cluster.url_of(f"shop:{PASSWORD}@"), partitions=16)) as own:
        own.check()
        own.check_rights("shop")
        own.publish("shop", expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
        own.prune("shop", floor=4)
        own.confirm("bank", "shop.saga", {0: 5})
        assert own.read("bank", {0: "0-0"}, count=1, block_seconds=0.1)
        assert own.heartbeat("shop.saga", "me", lease_seconds=9) == ["me"]
        assert not own.can_write("bank")
        assert own.is_reachable()
        with closing(own.open_nudge_connection()) as line:
            line.send("shop")
            assert own.wait_nudge("shop", timeout_seconds=5)


@pytest.fixture
def shop_user(cluster: LocalCluster, streams: Streams, long_look_up: None) -> Iterator[Streams]:
    """A client with the user of the service `shop`."""
    cluster.set_user("shop", PASSWORD, rules(["shop"]))
    with closing(Streams(cluster.url_of(f"shop:{PASSWORD}@"), partitions=16)) as own:
        yield own
    cluster.set_user("shop", PASSWORD, rules(["shop"]))


def test_a_node_without_the_user_is_named(cluster: LocalCluster, shop_user: Streams) -> None:
    node = cluster.replica_of(cluster.master_of("shop"))
    node.ask("ACL DELUSER", "shop")
    with pytest.raises(StreamsMisconfigured, match=f":{node.port} refuses the login"):
        shop_user.check()


def test_a_node_with_fewer_rights_is_named_before_it_has_the_keys(
    cluster: LocalCluster, shop_user: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    master = cluster.master_of("shop")
    node = cluster.replica_of(master)
    shop_user.check_rights("shop")
    assert not caplog.records
    node.ask("ACL SETUSER", "shop", "-xdel")
    shop_user.check_rights("shop")
    (line,) = caplog.messages
    assert f":{node.port} refuses XDEL {{shop}}:events:0 to the user" in line
    master.ask("ACL SETUSER", "shop", "-xdel")
    with pytest.raises(StreamsMisconfigured, match=f":{master.port} refuses XDEL"):
        shop_user.check_rights("shop")


# -- failures -------------------------------------------------------------------------------


@pytest.mark.short_timeouts
def test_requests_never_wait_long_for_nodes_that_do_not_answer(
    cluster: LocalCluster, streams: Streams, shop_master: Node
) -> None:
    with frozen(pids_of(*cluster.nodes)):
        assert timeouts_of(lambda: [module.nudge("shop") for _ in range(200)]) == []
        for _ in range(len(cluster.nodes)):  # also while the client looks for the masters
            assert timeouts_of(streams.is_reachable) in QUICK
            with pytest.raises(StreamsUnavailable):
                streams.peek_cursor("shop")
            assert timeouts_of(lambda: streams.nudge("shop")) in QUICK
    cluster.wait_healthy()
    eventually(lambda: answers(streams), within_seconds=PATIENCE_SECONDS, what="an answer")


def test_the_other_masters_serve_while_one_is_dead(
    cluster: LocalCluster, streams: Streams, shop_master: Node
) -> None:
    shop_master.kill()
    with pytest.raises(StreamsUnavailable):
        streams.cursor("shop")
    streams.check()  # by the relays of the other masters
    eventually(lambda: answers(streams), within_seconds=PATIENCE_SECONDS, what="the replica serves")
    eventually(  # the node that is asked may learn of it later
        lambda: cluster.master_of("shop") is not shop_master,
        within_seconds=PATIENCE_SECONDS,
        what="all nodes know the new master",
    )
    assert streams.cursor("shop").at == "5-1"
    eventually(streams.is_reachable, within_seconds=PATIENCE_SECONDS, what="all masters answer")


@pytest.mark.short_timeouts
def test_a_relay_starts_while_the_master_of_another_service_does_not_answer(
    cluster: LocalCluster, streams: Streams, shop: Any, record: Any, settings: Any
) -> None:
    other = elsewhere_than(shop.label, cluster)
    settings.OUTBOX_PRODUCERS = [other]
    record("a", 1)
    with cluster.without(other):
        run(shop, streams, stopping=threading.Event(), linger_seconds=0)
        assert len(in_streams(streams, shop.label)) == 1
        with pytest.raises(StreamsUnavailable):
            streams.peek_cursor(other)


def test_calls_with_a_short_timeout_find_a_master_while_another_one_does_not_answer(
    cluster: LocalCluster, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "QUICK_TIMEOUT_SECONDS", 0.3)  # also on a busy machine
    other = elsewhere_than("shop", cluster)
    with closing(Streams(cluster.url, partitions=16)) as patient:
        assert patient.is_reachable("shop")
        with cluster.without(other):
            for _ in cluster.nodes:  # also while a frozen node is asked for the masters
                assert not patient.is_reachable(other)
                assert patient.is_reachable("shop")


def test_writes_that_a_failover_loses_are_sent_again(
    cluster: LocalCluster, streams: Streams, shop: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PostgreSQL would end the relay's session, which is idle during the failover.
    monkeypatch.setattr(relaying, "SESSION", relaying.SESSION.replace("'10s'", "'5min'"))
    probe = Probe(shop)
    reader = _reader(shop, streams, probe)
    with own_connection(shop) as connection:
        relay = Relay(shop, streams, connection)
        events = [record("a", 1)]
        relay.drain()
        master = cluster.master_of(shop.label)
        replica = cluster.replica_of(master)
        wait_replicated(master, replica)
        kept = streams.cursor(shop.label).at
        with frozen(pids_of(replica)):
            master.ask(
                "CLIENT KILL", "TYPE", "replica"
            )  # what the replica gets from now on is lost
            events.append(record("a", 2))
            _patiently(relay.drain)
            _patiently(reader.step)
            assert probe.applied == [("a", 1), ("a", 2)]
            master.kill()
        eventually(
            lambda: replica.is_master, within_seconds=PATIENCE_SECONDS, what="it is promoted"
        )
        found = eventually(
            lambda: _cursor_or_none(streams, shop.label),
            within_seconds=PATIENCE_SECONDS,
            what="the cluster serves",
        )
        assert found == kept
        events.append(record("a", 3))
        _patiently(relay.drain)
        sent = _patiently(lambda: in_streams(streams, shop.label))
        # The reader has applied the second event, so it can't show whether the event is here.
        assert [body.decode() for _, body in sent] == [event.encode() for event in events]
    _patiently(reader.step)
    assert probe.applied == [("a", 1), ("a", 2), ("a", 3)]


def _patiently(call: Callable[[], T]) -> T:
    """Calls again while the cluster isn't ready, as relays and consumers do."""
    returned: list[T] = []

    def succeeds() -> bool:
        try:
            returned.append(call())
        except StreamsUnavailable:
            return False
        return True

    eventually(succeeds, within_seconds=PATIENCE_SECONDS, what="the cluster serves")
    return returned[0]


def _cursor_or_none(streams: Streams, label: str) -> str | None:
    try:
        return streams.cursor(label).at
    except StreamsUnavailable:
        return None


def _reader(shop: Any, streams: Streams, probe: Probe) -> Any:
    from outbox.consuming.reader import Reader

    consumer = consumer_of(shop, probe)
    return Reader(consumer, shop.label, streams, stopping=threading.Event())


def test_nudges_follow_a_master_that_handed_over_its_slots(
    cluster: LocalCluster, streams: Streams, shop_master: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "LOCATED_SECONDS", 0.5)

    def is_nudged() -> bool:
        module.nudge("shop")
        try:
            return streams.wait_nudge("shop", timeout_seconds=0.05)
        except StreamsUnavailable:
            return False

    eventually(is_nudged, within_seconds=PATIENCE_SECONDS, what="a nudge arrives")
    eventually(
        lambda: not streams.wait_nudge("shop", timeout_seconds=0.05),
        within_seconds=PATIENCE_SECONDS,
        what="no nudge is left",
    )
    cluster.fail_over(shop_master)
    eventually(is_nudged, within_seconds=PATIENCE_SECONDS, what="a nudge arrives again")


def test_a_service_waits_while_its_slot_moves(
    cluster: LocalCluster, streams: Streams, shop_master: Node
) -> None:
    target = next(node for node in cluster.masters if node is not shop_master)
    slot = cluster.begin_move("shop", to=target)
    try:
        cluster.move_key("{shop}:events:0", shop_master, to=target)
        with pytest.raises(StreamsUnavailable, match="takes no writes"):
            streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b")])
        with pytest.raises(StreamsUnavailable):
            streams.read("shop", dict.fromkeys(range(16), "0-0"), count=1, block_seconds=0.01)
        with pytest.raises(StreamsUnavailable):
            streams.wait_nudge("shop", timeout_seconds=0.01)
    finally:
        cluster.end_move(slot, shop_master, to=target)
    eventually(lambda: answers(streams), within_seconds=PATIENCE_SECONDS, what="the move ends")
    streams.publish("shop", expected="5-1", at="6-2", tick=6, rows=[(2, 0, "b")])
    found = streams.read("shop", {0: "0-0"}, count=10, block_seconds=0.1)
    assert found
    assert [entry.id for entry in found.entries] == ["5-1", "6-2"]


# -- under load -----------------------------------------------------------------------------

SEED = 20261129
ROWS_BETWEEN_FAULTS = 300


class ClusterProject(Project):
    """The example project with its streams on a cluster."""

    def __init__(self, root: Path, cluster: LocalCluster) -> None:
        super().__init__(root)
        self._cluster = cluster

    def start_streams(self) -> tuple[str, Any]:
        url = self._cluster.masters[0].url
        return self._cluster.url, redis.RedisCluster.from_url(url, decode_responses=True)


@pytest.fixture
def project(tmp_path: Path, cluster: LocalCluster) -> Iterator[Project]:
    cluster.heal()
    project = ClusterProject(tmp_path, cluster)
    try:
        project.start()
        yield project
    finally:
        project.stop()
        cluster.heal()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_events_are_applied_once_and_in_order_while_masters_die_and_slots_move(
    cluster: LocalCluster, project: Project
) -> None:
    writers = project.spawn(
        "load",
        *("--events", "1000000", "--seconds", "600", "--seed", str(SEED)),
        *("--sizes", "1", "5", "--pause", "0.04"),
    )
    relay = project.spawn("outbox", "relay", "shop")
    consumers = [project.spawn("outbox", "consume") for _ in range(2)]
    faults = FAULTS * 3
    random.Random(SEED).shuffle(faults)  # noqa: S311
    pauses = []
    for fault in faults:
        _wait_for_events(project, ROWS_BETWEEN_FAULTS)
        fault(cluster)
        pauses.append(f"{fault.__name__} {seconds_of(lambda: _wait_for_events(project, 1)):.1f} s")
        cluster.restart()
    writers.kill()
    writers.wait()
    project.settle()
    for process in (relay, *consumers):
        project.end(process)
    verdict = project.verdict()
    print(f"{verdict}; until an event was applied again: {', '.join(pauses)}")  # noqa: T201
    assert verdict.committed >= len(faults) * ROWS_BETWEEN_FAULTS
    assert verdict.faultless, verdict


def _wait_for_events(project: Project, number: int) -> None:
    """Waits until this number of events that are recorded from now on are applied."""
    ((now,),) = project.ask("SELECT clock_timestamp()::text")
    later = f"SELECT count(*) FROM shop_applied WHERE recorded > '{now}'"  # noqa: S608
    eventually(
        lambda: project.ask(later)[0][0] >= number,
        within_seconds=PATIENCE_SECONDS,
        what=f"{number} events are applied",
    )


def kill(cluster: LocalCluster) -> None:
    cluster.master_of("shop").kill()


def hand_over(cluster: LocalCluster) -> None:
    cluster.fail_over(cluster.master_of("shop"))


def move(cluster: LocalCluster) -> None:
    source = cluster.master_of("shop")
    target = next(node for node in cluster.masters if node is not source)
    cluster.end_move(cluster.begin_move("shop", to=target), source, to=target)


FAULTS = [kill, hand_over, move]
