"""Nodes that save data on disk and restart with the data before a request detects the restart."""

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

pytestmark = pytest.mark.usefixtures("patient_ring")


@pytest.fixture
def kept(servers: Servers) -> tuple[RingCache, Valkey, str]:
    """A key whose node has version 1 on disk and version 2 in memory only."""
    cache, node = servers.cache(), servers.nodes[0]
    key = keys_at(cache, node, number=1)[0]
    cache.get_or_set(key, lambda: (1, "old"), None)
    with cache.ring.node(place_at(cache, key).node) as holder:
        holder.client.save()
        holder.client.config_set("save", "")
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


def test_a_node_restarted_with_data_on_disk_serves_none_of_it(
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
        lambda: other.get(key) == (2, "loaded"), within_seconds=5, what="agreement on the place"
    )
    assert place_at(cache, key).generation > was.generation
    assert has_on_disk(cache, was, key), (
        "the old value exists under a generation that is never read"
    )


def test_a_node_restarted_while_the_store_is_down_serves_no_old_data(
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
        what="a node in use again",
    )


def test_a_thread_that_placed_a_key_before_a_restart_serves_no_old_data(
    kept: tuple[RingCache, Valkey, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread detects the restart after this thread places the key and before it reads."""
    cache, node, key = kept
    placed, resume = threading.Event(), threading.Event()
    get = Node.get

    def late(self: Node, place: Place, made: str) -> bytes | None:
        if threading.current_thread() is not threading.main_thread():
            placed.set()
            assert resume.wait(20)
        return get(self, place, made)

    monkeypatch.setattr(Node, "get", late)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(cache.get, key)
        assert placed.wait(20)
        restart(node)
        before = place_at(cache, key)
        eventually(
            lambda: (cache.get(key), place_at(cache, key) != before)[1],
            within_seconds=5,
            what="a restart that this thread knows of",
        )
        resume.set()
        assert reader.result(20) is None


def test_a_new_connection_to_a_running_node_changes_no_place(
    servers: Servers,
) -> None:
    first, key = servers.cache(), "key"
    first.set(key, "value")
    place = place_at(first, key)

    caches = [servers.cache() for _ in range(3)]
    assert [cache.get(key) for cache in caches] == ["value"] * 3
    assert {place_at(cache, key) for cache in caches} == {place}
