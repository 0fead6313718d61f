"""Many keys at once: every node is asked at the same time, and each answer stays with its key."""

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

VALUES = {f"key-{number}": number for number in range(100)}


def calls(server: Valkey, command: str) -> int:
    """How often the server was sent it."""
    told = re.search(rf"cmdstat_{command}:calls=(\d+)", server.command("INFO commandstats"))
    return int(told[1]) if told else 0


def clients(server: Valkey) -> int:
    """How many are connected, whoever asks included."""
    told = re.search(r"connected_clients:(\d+)", server.command("INFO clients"))
    assert told
    return int(told[1])


@pytest.fixture
def patient(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> RingCache:
    """It waits for a node that hangs for longer than the test takes."""
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
                what="the others were asked",
            )
            assert not reading.done()
            servers.thaw()
            assert reading.result(20) == VALUES


def test_what_a_full_node_refuses_is_told_by_key_and_every_other_answer_stays_with_its_key(
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


def test_answers_that_nobody_waited_for_are_given_to_nobody_else(
    servers: Servers, cache: RingCache
) -> None:
    """The connection on which they would come is closed."""
    server = servers.nodes[0]
    (key,) = keys_at(cache, server, number=1)
    cache.set(key, "value")
    place = cache.ring.place(cache.make_key(key))
    assert place is not None
    connected = clients(server)
    with cache.ring.node(place.node) as node:
        Pending(node.client, [("PING",)] * 3).close()

    eventually(lambda: clients(server) == connected - 1, within_seconds=10, what="it is closed")
    assert cache.get_many([key, "none"]) == {key: "value"}


def test_pairs_among_many_keep_their_floors(cache: RingCache) -> None:
    assert cache.invalidate("pair", 5)
    cache.set_many({"pair": (4, "old"), "plain": "value"})
    assert cache.get_many(["pair", "plain"]) == {"plain": "value"}

    cache.set_many({"pair": (5, "new"), "plain": "value"}, timeout=None)
    assert cache.get_many(["pair", "plain"]) == {"pair": (5, "new"), "plain": "value"}


def test_many_keys_are_invalidated_each_below_its_own_floor(cache: RingCache) -> None:
    pairs = {f"pair-{number}": (number, "value") for number in range(30)}
    cache.set_many(pairs)
    assert cache.invalidate_many(dict.fromkeys(pairs, 10)) == []
    assert cache.get_many(pairs) == {key: pair for key, pair in pairs.items() if pair[0] >= 10}

    cache.set_many(pairs)
    assert cache.get_many(pairs) == {key: pair for key, pair in pairs.items() if pair[0] >= 10}


def test_what_could_not_be_invalidated_surely_is_told_by_key(servers: Servers) -> None:
    cache, full = servers.cache(), servers.nodes[0]
    theirs = keys_at(cache, full, number=5)
    others = keys_at(cache, servers.nodes[1], number=5)
    cache.set_many(dict.fromkeys([*theirs, *others], (1, "old")), timeout=None)
    servers.store.kill()  # so that nobody can be told that the node is out
    full.kill()
    assert set(cache.invalidate_many(dict.fromkeys([*theirs, *others], 2))) == set(theirs)
    assert cache.get_many(others) == {}
    servers.store.start()
    full.start()
    eventually(
        lambda: cache.invalidate_many(dict.fromkeys([*theirs, *others], 2)) == [],
        within_seconds=20,
        what="all of them are invalidated",
    )
    assert cache.get_many([*theirs, *others]) == {}
