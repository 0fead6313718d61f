"""Calls for many keys: all nodes are asked at the same time, and each key gets its answer."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from placement.ring import nodes as ring_nodes
from placement.ring.cache import RingCache
from placement.ring.nodes import Pending
from stack.servers import Valkey
from tests.integration.ring.conftest import Servers
from tests.integration.ring.test_members import keys_at
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("patient_ring")

VALUES = {f"key-{number}": number for number in range(100)}


def calls(server: Valkey, command: str) -> int:
    """How often the server ran the command."""
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", server.command("INFO commandstats"))
    return int(found[1]) if found else 0


def clients(server: Valkey) -> int:
    """The number of connected clients, including the one of this query."""
    found = re.search(r"connected_clients:(\d+)", server.command("INFO clients"))
    assert found
    return int(found[1])


@pytest.fixture
def patient(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> RingCache:
    """A cache whose timeout is longer than a test."""
    monkeypatch.setattr(ring_nodes, "NODE_TIMEOUT_SECONDS", 20.0)
    cache = servers.cache()
    assert cache.set_many(VALUES) == []
    return cache


def test_no_node_waits_for_another_to_answer(servers: Servers, patient: RingCache) -> None:
    for hung in servers.nodes:
        awake = [node for node in servers.nodes if node is not hung]
        before = [calls(node, "mget") for node in awake]
        servers.freeze(hung)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(patient.get_many, VALUES)
            eventually(
                lambda awake=awake, before=before: (
                    [calls(node, "mget") - once for node, once in zip(awake, before, strict=True)]
                    == [1, 1]
                ),
                within_seconds=10,
                what="a query at the other nodes",
            )
            assert not reading.done()
            servers.thaw()
            assert reading.result(20) == VALUES


def test_set_many_returns_the_keys_that_a_full_node_refuses(
    servers: Servers,
) -> None:
    cache, full = servers.cache(), servers.nodes[0]
    theirs = set(keys_at(cache, full, number=20))
    assert cache.set_many(VALUES) == []
    full.command("CONFIG SET maxmemory 1")
    try:
        refused = cache.set_many({key: -value for key, value in VALUES.items()})
    finally:
        full.command("CONFIG SET maxmemory 0")

    assert theirs & set(VALUES) <= set(refused)
    assert cache.get_many(set(VALUES) - set(refused)) == {
        key: -value for key, value in VALUES.items() if key not in refused
    }
    assert cache.set_many(VALUES) == []
    assert cache.get_many(VALUES) == VALUES


def test_unread_answers_never_reach_another_call(servers: Servers, cache: RingCache) -> None:
    """The cache closes a connection that has unread answers."""
    server = servers.nodes[0]
    (key,) = keys_at(cache, server, number=1)
    cache.set(key, "value")
    place = cache.ring.place(cache.make_key(key))
    assert place is not None
    connected = clients(server)
    with cache.ring.node(place.node) as node:
        Pending(node.client, [("PING",)] * 3).close()

    eventually(lambda: clients(server) < connected, within_seconds=10, what="a closed connection")
    assert cache.get_many([key, "none"]) == {key: "value"}


def test_set_many_respects_the_floors_of_versioned_values(cache: RingCache) -> None:
    assert cache.invalidate("pair", 5)
    cache.set_many({"pair": (4, "old"), "plain": "value"})
    assert cache.get_many(["pair", "plain"]) == {"plain": "value"}

    cache.set_many({"pair": (5, "new"), "plain": "value"}, timeout=None)
    assert cache.get_many(["pair", "plain"]) == {"pair": (5, "new"), "plain": "value"}


def test_invalidate_many_removes_the_versions_below_the_floor(cache: RingCache) -> None:
    pairs = {f"pair-{number}": (number, "value") for number in range(30)}
    cache.set_many(pairs)
    assert cache.invalidate_many(dict.fromkeys(pairs, 10)) == []
    assert cache.get_many(pairs) == {key: pair for key, pair in pairs.items() if pair[0] >= 10}

    cache.set_many(pairs)
    assert cache.get_many(pairs) == {key: pair for key, pair in pairs.items() if pair[0] >= 10}


def test_invalidate_many_returns_the_keys_that_it_could_not_invalidate(servers: Servers) -> None:
    cache, full = servers.cache(), servers.nodes[0]
    theirs = keys_at(cache, full, number=5)
    others = keys_at(cache, servers.nodes[1], number=5)
    cache.set_many(dict.fromkeys([*theirs, *others], (1, "old")), timeout=None)
    servers.store.kill()  # so that the node can't be ejected
    full.kill()
    assert set(cache.invalidate_many(dict.fromkeys([*theirs, *others], 2))) == set(theirs)
    assert cache.get_many(others) == {}
    servers.store.start()
    full.start()
    eventually(
        lambda: cache.invalidate_many(dict.fromkeys([*theirs, *others], 2)) == [],
        within_seconds=20,
        what="the invalidation of all keys",
    )
    assert cache.get_many([*theirs, *others]) == {}
