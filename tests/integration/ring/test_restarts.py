"""Nodes that keep their data on disk, and come back with it before anybody missed them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from placement.ring.arrangement import Place
from placement.ring.cache import RingCache
from placement.ring.nodes import Node
from stack.servers import Valkey
from tests.integration.ring.conftest import Servers
from tests.integration.ring.test_members import keys_at
from tests.support.waiting import eventually


@pytest.fixture
def kept(servers: Servers) -> tuple[RingCache, Valkey, str]:
    """A versioned value whose node saves it; then the value changes, and the node doesn't save."""
    cache, node = servers.cache(), servers.nodes[0]
    key = keys_at(cache, node, number=1)[0]
    cache.get_or_set(key, lambda: (1, "old"), None)
    with cache.ring.node(place_at(cache, key).node) as asked:
        asked.client.save()
        asked.client.config_set("save", "")
    assert cache.invalidate(key, 2)
    assert cache.get_or_set(key, lambda: (2, "new"), None) == (2, "new")
    return cache, node, key


def place_at(cache: RingCache, key: str) -> Place:
    place = cache.ring.place(cache.make_key(key))
    assert place is not None
    return place


def restart(node: Valkey) -> None:
    node.kill()
    node.start()


def has_on_disk(cache: RingCache, place: Place, key: str) -> bool:
    with cache.ring.node(place.node) as node:
        return node.get(place, cache.make_key(key)) is not None


def test_a_node_that_restarts_with_what_it_had_on_disk_serves_nothing_of_it(
    servers: Servers, kept: tuple[RingCache, Valkey, str]
) -> None:
    cache, node, key = kept
    was, other = place_at(cache, key), servers.cache()
    assert other.get(key) == (2, "new")
    restart(node)

    found = [cache.get(key), other.get(key), cache.get(key), other.get(key)]
    found += [served.get_many([key]).get(key) for served in (cache, other, servers.cache())]
    assert (1, "old") not in found
    assert cache.get_or_set(key, lambda: (2, "loaded")) == (2, "loaded")
    eventually(
        lambda: other.get(key) == (2, "loaded"), within_seconds=5, what="all agree where it is"
    )
    assert place_at(cache, key).generation > was.generation
    assert has_on_disk(cache, was, key), "the old value is there, and nobody asks for it"


def test_nor_does_it_while_nobody_can_be_told_of_the_restart(
    servers: Servers, kept: tuple[RingCache, Valkey, str]
) -> None:
    cache, node, key = kept
    servers.store.kill()
    restart(node)

    assert {cache.get(key) for _ in range(5)} == {None}
    assert cache.get_or_set(key, lambda: (2, "loaded")) == (2, "loaded")
    servers.store.start()
    eventually(
        lambda: cache.get_or_set(key, lambda: (2, "again")) == cache.get(key) == (2, "again"),
        within_seconds=10,
        what="it is used again",
    )


def test_a_thread_that_knew_the_place_before_the_restart_serves_nothing_of_it_either(
    kept: tuple[RingCache, Valkey, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of its process is the one that finds out, in between."""
    cache, node, key = kept
    placed, go_on = threading.Event(), threading.Event()
    look = Node.get

    def late(self: Node, place: Place, made: str) -> bytes | None:
        if threading.current_thread() is not threading.main_thread():
            placed.set()
            assert go_on.wait(20)
        return look(self, place, made)

    monkeypatch.setattr(Node, "get", late)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(cache.get, key)
        assert placed.wait(20)
        restart(node)
        before = place_at(cache, key)
        eventually(
            lambda: (cache.get(key), place_at(cache, key) != before)[1],
            within_seconds=5,
            what="this thread knows of the restart",
        )
        go_on.set()
        assert reader.result(20) is None


def test_connections_that_are_made_while_nothing_happened_change_nothing(
    servers: Servers,
) -> None:
    first, key = servers.cache(), "key"
    first.set(key, "value")
    place = place_at(first, key)

    caches = [servers.cache() for _ in range(3)]
    assert [cache.get(key) for cache in caches] == ["value"] * 3
    assert {place_at(cache, key) for cache in caches} == {place}
