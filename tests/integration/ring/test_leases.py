"""Leases: the readers of a key share one load, and no value is older than a known version."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from placement.ring import leases as ring_leases
from placement.ring import values as ring_values
from placement.ring.cache import RingCache
from placement.ring.nodes import names
from placement.ring.process import Ring
from tests.integration.ring.conftest import Servers
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("patient_ring")

READERS = 200
KEY = "accounts:user:1"


def refuse() -> Any:
    raise AssertionError("the cache must not call this loader")


def returning(value: Any) -> Callable[[], Any]:
    return lambda: value


@contextmanager
def loading(cache: RingCache, value: Any, key: str = KEY) -> Iterator[Callable[[], Any]]:
    """A reader that waits in its load; the yielded function ends the load and returns a result."""
    started, resume = threading.Event(), threading.Event()

    def load() -> Any:
        if not started.is_set():
            started.set()
            assert resume.wait(10)
            return value
        return later.pop() if later else value

    later: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(cache.get_or_set, key, load)
        assert started.wait(10)

        def end(*reloaded: Any) -> Any:
            later.extend(reloaded)
            resume.set()
            return reader.result(10)

        try:
            yield end
        finally:
            resume.set()


@pytest.mark.usefixtures("crowded_ring")
def test_two_hundred_readers_of_one_expired_key_load_it_once(servers: Servers) -> None:
    processes = [servers.cache() for _ in range(4)]
    processes[0].set(KEY, (1, "expired"), timeout=0.01)
    eventually(lambda: KEY not in processes[0], within_seconds=5, what="an expired value")
    loads: list[int] = []
    together = threading.Barrier(READERS)

    def load() -> tuple[int, str]:
        loads.append(1)
        threading.Event().wait(0.2)  # so that the other readers arrive during the load
        return 2, "new"

    def read(number: int) -> Any:
        together.wait(20)
        return processes[number % 4].get_or_set(KEY, load)

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read, range(READERS)))

    assert len(loads) == 1
    assert found == [(2, "new")] * READERS


def test_a_stale_load_during_an_invalidation_is_not_stored(cache: RingCache) -> None:
    with loading(cache, (1, "old")) as end:
        assert cache.invalidate(KEY, 2)

        assert end((2, "new")) == (2, "new"), "the reader loads again"
    assert cache.get(KEY) == (2, "new")


def test_a_value_from_a_lagging_source_is_served_and_not_stored(
    cache: RingCache,
) -> None:
    assert cache.invalidate(KEY, 5)

    assert cache.get_or_set(KEY, returning((4, "lagging"))) == (4, "lagging")
    assert cache.get(KEY) is None
    assert cache.get_or_set(KEY, returning((5, "caught up"))) == (5, "caught up")
    assert cache.get(KEY) == (5, "caught up")


def test_set_and_add_refuse_a_version_below_the_floor(cache: RingCache) -> None:
    assert cache.invalidate(KEY, 5)
    cache.set(KEY, (4, "old"))
    assert not cache.add(KEY, (4, "old"))
    cache.set_many({KEY: (4, "old")})
    assert cache.get(KEY) is None

    assert cache.add(KEY, (5, "new"))
    assert cache.get(KEY) == (5, "new")


@pytest.mark.parametrize(("loaded", "newer"), [((1, "old"), (2, "new")), ("old", "new")])
def test_a_late_load_never_replaces_a_newer_value(
    cache: RingCache, loaded: Any, newer: Any
) -> None:
    with loading(cache, loaded) as end:
        cache.set(KEY, newer)

        assert end(newer) == newer
    assert cache.get(KEY) == newer


def test_a_key_deleted_during_its_load_is_not_stored(cache: RingCache) -> None:
    with loading(cache, "loaded before") as end:
        cache.delete(KEY)

        assert end() == "loaded before"
    assert cache.get(KEY) is None


def test_invalidation_is_correct_under_duplicates_and_any_order(cache: RingCache) -> None:
    cache.get_or_set(KEY, returning((3, "three")))
    for floor in (2, 3, 1) * 3:
        assert cache.invalidate(KEY, floor)
        assert cache.get(KEY) == (3, "three"), "a version at or above the floor stays"

    assert cache.invalidate(KEY, 4)
    assert cache.get(KEY) is None


def test_a_repeated_invalidation_revokes_no_lease(cache: RingCache) -> None:
    assert cache.invalidate(KEY, 2)
    with loading(cache, (2, "new")) as end:
        assert cache.invalidate(KEY, 2)

        assert end((2, "loaded twice")) == (2, "new")


def test_a_failed_load_releases_its_lease(cache: RingCache) -> None:
    def fail() -> None:
        raise LookupError("the database is down")

    with pytest.raises(LookupError):
        cache.get_or_set(KEY, fail)
    assert cache.get_or_set(KEY, returning((1, "next"))) == (1, "next")
    assert cache.ring.counts["waits"] == 0


def test_the_lease_of_a_dead_reader_expires(servers: Servers) -> None:
    dead, cache = servers.cache(), servers.cache()
    place = dead.ring.place(dead.make_key(KEY))
    assert place is not None
    with dead.ring.node(place.node) as node:
        assert node.lease(place, dead.make_key(KEY), token="dead", lease_ms=100)

    assert cache.get_or_set(KEY, returning((1, "next"))) == (1, "next")
    assert cache.get(KEY) == (1, "next")


def test_a_reader_that_waits_too_long_loads_the_value(
    cache: RingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_leases, "WAIT_SECONDS", 0.05)
    with loading(cache, (1, "slow")) as end:
        assert cache.get_or_set(KEY, returning((1, "own"))) == (1, "own")
        assert end() == (1, "slow")


def test_a_missing_row_is_cached_for_a_shorter_time(servers: Servers) -> None:
    cache = servers.cache(OPTIONS={"NEGATIVE_SECONDS": 30})

    assert cache.get_or_set(KEY, returning((0, None)), 600) == (0, None)
    assert cache.get_or_set(KEY, refuse, 600) == (0, None)
    assert 0 < life_ms(cache, KEY) <= 30_000
    assert cache.invalidate(KEY, 1), "the node confirms the invalidation"
    assert cache.get_or_set(KEY, returning((1, "there")), 600) == (1, "there")
    assert life_ms(cache, KEY) > 30_000


def life_ms(cache: RingCache, key: str) -> int:
    """The remaining time for which the node keeps the value."""
    made = cache.make_key(key)
    place = cache.ring.place(made)
    assert place is not None
    with cache.ring.node(place.node) as node:
        return int(node.client.pttl(names(place, made)[0]))  # type: ignore[arg-type]


def test_touch_extends_the_life_of_a_value(cache: RingCache) -> None:
    cache.set(KEY, "value", timeout=60)
    assert cache.touch(KEY, timeout=600)
    assert life_ms(cache, KEY) > 60_000


def test_keys_that_are_loaded_together_do_not_expire_together(cache: RingCache) -> None:
    lives = set()
    for number in range(20):
        cache.get_or_set(f"key-{number}", lambda: "value", 1000)
        lives.add(life_ms(cache, f"key-{number}"))

    assert len(lives) > 10
    shortest_ms = 1_000_000 * (1 - ring_leases.JITTER) - 30_000  # a busy machine may read late
    assert shortest_ms <= min(lives) <= max(lives) <= 1_000_000


def test_one_reader_reloads_a_hot_key_before_it_expires(
    cache: RingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get_or_set(KEY, returning((1, "first")), 60)
    assert cache.get_or_set(KEY, refuse, 60) == (1, "first"), "no reload so early"
    monkeypatch.setattr(ring_leases, "EAGERNESS", 1e12)

    with loading(cache, (2, "second")) as end:
        assert cache.get_or_set(KEY, refuse, 60) == (1, "first"), "other readers don't wait"
        assert end() == (2, "second")
    monkeypatch.setattr(ring_leases, "EAGERNESS", 0)
    assert cache.get_or_set(KEY, refuse, 60) == (2, "second")


def test_a_failed_early_load_serves_the_cached_value(
    cache: RingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get_or_set(KEY, returning((1, "first")), 60)
    monkeypatch.setattr(ring_leases, "EAGERNESS", 1e12)

    assert cache.get_or_set(KEY, lambda: 1 // 0, 60) == (1, "first")


def test_a_reader_that_asked_a_node_without_keys_leaves_no_lease_there(
    cache: RingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True])
    monkeypatch.setattr(cache.ring, "has_moved", lambda *_, **__: next(answers, False))

    assert cache.get_or_set(KEY, returning((1, "loaded"))) == (1, "loaded")
    assert cache.ring.counts["waits"] == 0


def test_a_process_never_serves_an_older_version_than_before(cache: RingCache) -> None:
    """The node has an old value again, and the process must load a new value."""
    cache.get_or_set(KEY, returning((2, "new")))
    place = cache.ring.place(cache.make_key(KEY))
    assert place is not None
    old = ring_values.encode((1, "old")).text
    with cache.ring.node(place.node) as node:
        node.client.set(names(place, cache.make_key(KEY))[0], old)

    assert cache.get_or_set(KEY, returning((2, "new again"))) == (2, "new again")
    assert cache.ring.counts["went_back"] == 1


def test_a_slow_load_does_not_bring_back_an_older_version(
    cache: RingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread bypasses the ring and reads a change whose invalidation isn't sent yet."""
    with loading(cache, (1, "old")) as end:
        with monkeypatch.context() as bypassed:
            bypassed.setattr(cache.ring, "place", lambda _: None)
            assert cache.get_or_set(KEY, returning((2, "new"))) == (2, "new")
        end()
    assert cache.get_or_set(KEY, returning((2, "new"))) == (2, "new")


@pytest.mark.parametrize("garbage", [b"", b"\x80\x04N.", b'r1 - 0 "older"', b"r2 - 0 \x92"])
def test_a_value_of_another_release_or_garbage_is_a_miss(cache: RingCache, garbage: bytes) -> None:
    cache.set(KEY, "value")
    put_raw(cache.ring, cache.make_key(KEY), garbage)

    assert cache.get(KEY) is None
    assert cache.get_many([KEY]) == {}
    assert cache.get_or_set(KEY, returning((1, "loaded"))) == (1, "loaded")
    assert cache.get(KEY) == (1, "loaded")


def put_raw(ring: Ring, key: str, stored: bytes) -> None:
    place = ring.place(key)
    assert place is not None
    with ring.node(place.node) as node:
        node.client.set(names(place, key)[0], stored)


def test_a_key_of_another_type_is_a_miss_and_ejects_no_node(cache: RingCache) -> None:
    key = cache.make_key(KEY)
    place = cache.ring.place(key)
    assert place is not None
    with cache.ring.node(place.node) as node:
        node.client.rpush(names(place, key)[0], "a list")

    for _ in range(5):
        assert cache.get(KEY) is None
        assert cache.get_many([KEY]) == {}
    assert cache.get_or_set(KEY, returning((1, "loaded"))) == (1, "loaded")
    assert cache.get(KEY) == (1, "loaded")
    assert cache.ring.place(key) == place


def test_a_value_above_the_size_limit_is_refused(cache: RingCache) -> None:
    large = "x" * 1_000_001

    for store in (cache.set, cache.add):
        with pytest.raises(ValueError, match=r"has 10000\d\d bytes; the cache ring keeps up to"):
            store(KEY, large)
    with pytest.raises(ValueError, match="keeps up to 1000000"):
        cache.set_many({"small": 1, KEY: large})
    assert cache.get_many(["small", KEY]) == {}
    assert cache.get_or_set(KEY, returning(large)) == large, "a loaded value is served"
    assert cache.get(KEY) is None
    assert cache.get_or_set(KEY, returning("small")) == "small", "the lease was released"


def test_a_value_that_is_not_plain_data_is_refused_and_blocks_no_reader(cache: RingCache) -> None:
    with pytest.raises(TypeError, match=r"plain data, not builtins\.object"):
        cache.set(KEY, object())
    with pytest.raises(TypeError, match=r"plain data, not builtins\.object"):
        cache.get_or_set(KEY, object)
    assert cache.get_or_set(KEY, returning("value")) == "value"
    assert cache.ring.counts["waits"] == 0
