"""Nodes that hang, die, return empty and join: nothing old is served, and all agree who is in."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from prometheus_client.core import Metric

from config.metrics import ring_metrics
from placement.ring import arrangement as ring
from placement.ring import nodes as ring_nodes
from placement.ring.cache import RingCache
from placement.ring.membership import CONFIRMED_SECONDS, FAILURES
from stack.servers import Valkey
from tests.integration.ring.conftest import NODES, Servers
from tests.support.waiting import eventually

SOON_SECONDS = 10.0


def state_of(cache: RingCache, server: Valkey) -> str:
    view = cache.ring.members.view()
    if view is None:
        return "unknown"
    return next(m.state for name, m in view.members.items() if f":{server.port}/" in name)


def wait_for(cache: RingCache, server: Valkey, state: str) -> None:
    eventually(
        lambda: state_of(cache, server) == state, within_seconds=SOON_SECONDS, what=f"it is {state}"
    )


def keys_at(cache: RingCache, server: Valkey, *, number: int = 5) -> list[str]:
    """Keys that this node holds now."""
    found = []
    for candidate in (f"key-{n}" for n in range(10_000)):
        place = cache.ring.place(cache.make_key(candidate))
        if place and f":{server.port}/" in place.node:
            found.append(candidate)
        if len(found) == number:
            return found
    raise AssertionError("the node holds nothing")


def use_until_ejected(cache: RingCache, server: Valkey, keys: list[str]) -> None:
    for _ in range(FAILURES):
        cache.get_many(keys)
    wait_for(cache, server, "ejected")


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_node_that_fails_is_out_for_every_process_within_a_second(
    servers: Servers, how: str
) -> None:
    node = servers.nodes[0]
    one, other = servers.cache(), servers.cache()
    other.get("anything")
    keys = keys_at(one, node)
    began = time.monotonic()
    servers.freeze(node) if how == "freeze" else node.kill()

    for _ in range(FAILURES):
        one.set(keys[0], "kept for a minute by this process")
    assert time.monotonic() - began < 1.0

    assert state_of(one, node) == "ejected"
    wait_for(other, node, "ejected")
    one.set(keys[0], "elsewhere")
    assert other.get(keys[0]) == "elsewhere"


@pytest.mark.parametrize("times", [1, 2])
def test_a_node_that_comes_back_serves_nothing_old_nor_does_its_stand_in(
    servers: Servers, times: int
) -> None:
    node = servers.nodes[0]
    cache = servers.cache()
    keys = keys_at(cache, node)
    for turn in range(times):
        cache.set_many(dict.fromkeys(keys, f"before {turn}"), timeout=None)
        servers.freeze(node)
        use_until_ejected(cache, node, keys)
        assert cache.get_many(keys) == {}, "what the stand-in kept of an earlier time is old"
        cache.set_many(dict.fromkeys(keys, f"meanwhile {turn}"), timeout=None)
        assert set(cache.get_many(keys).values()) == {f"meanwhile {turn}"}
        servers.thaw()
        wait_for(cache, node, "up")
        assert cache.get_many(keys) == {}


def test_other_nodes_keep_what_they_have_when_one_goes_and_comes(servers: Servers) -> None:
    node = servers.nodes[0]
    cache = servers.cache()
    values = {f"key-{number}": number for number in range(300)}
    cache.set_many(values, timeout=None)
    lost = set(keys_at(cache, node, number=80))
    lost |= {key for key in values if str(node.port) in place_of(cache, key)}
    servers.freeze(node)
    use_until_ejected(cache, node, sorted(lost)[:5])
    servers.thaw()
    wait_for(cache, node, "up")

    assert cache.get_many(values) == {k: v for k, v in values.items() if k not in lost}


def place_of(cache: RingCache, key: str) -> str:
    place = cache.ring.place(cache.make_key(key))
    assert place is not None
    return place.node


def test_a_node_that_was_killed_and_is_empty_is_taken_back(servers: Servers) -> None:
    node = servers.nodes[1]
    cache = servers.cache()
    keys = keys_at(cache, node)
    node.kill()
    use_until_ejected(cache, node, keys)
    node.start()

    wait_for(cache, node, "up")
    cache.set(keys[0], "value")
    assert cache.get(keys[0]) == "value"
    assert keys[0] in servers.cache()


def test_a_node_that_one_process_knows_is_used_by_all(servers: Servers) -> None:
    """As in a deployment that goes from process to process with a longer CACHE_URLS."""
    old = servers.cache()
    values = {f"key-{number}": number for number in range(600)}
    old.set_many(values)
    new = servers.cache(nodes=NODES + 1)

    wait_for(new, servers.all[NODES], "up")
    eventually(
        lambda: len(old.ring.members.view().members) == NODES + 1,  # type: ignore[union-attr]
        within_seconds=CONFIRMED_SECONDS,
        what="the old process knows it",
    )
    kept = new.get_many(values)
    assert 1 - 1.35 / (NODES + 1) < len(kept) / len(values) < 1, "only its share was lost"
    assert old.get_many(values) == kept
    key = next(key for key in values if key not in kept)
    new.set(key, "there")
    assert old.get(key) == "there", "also without its address"


AGREE = """
import json, sys
from django.conf import settings
settings.configure()
from placement.ring.process import connect
store, *urls = sys.argv[1:]
ring = connect(tuple(urls), store_url=store)
view = ring.members.view()
print(json.dumps([view.epoch, sorted(n for n, m in view.members.items() if m.is_up)]))
print([ring.place(f"key-{n}").node for n in range(200)])
"""


def test_every_process_agrees_on_members_and_places(servers: Servers) -> None:
    cache = servers.cache()
    keys = keys_at(cache, servers.nodes[2])
    servers.nodes[2].kill()
    use_until_ejected(cache, servers.nodes[2], keys)
    urls = [node.url for node in servers.nodes]
    told = set()
    for order in (urls, urls[::-1]):
        command = [sys.executable, "-c", AGREE, servers.store.url, *order]
        told.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    (only,) = told
    members, places = only.splitlines()
    _, living = json.loads(members)
    assert len(living) == NODES - 1
    assert not any(f":{servers.nodes[2].port}/" in name for name in living)
    assert places == str([cache.ring.place(f"key-{n}").node for n in range(200)])  # type: ignore[union-attr]


def test_an_invalidation_that_a_node_does_not_take_ejects_it(servers: Servers) -> None:
    node = servers.nodes[0]
    writer, reader = servers.cache(), servers.cache()
    key = keys_at(writer, node)[0]
    assert reader.get_or_set(key, lambda: (1, "old")) == (1, "old")
    before = reader.ring.place(reader.make_key(key))
    servers.freeze(node)

    assert writer.invalidate(key, 2), "sure, since nobody will use the node as it was"

    servers.thaw()
    # Up alone says nothing: the reader may not have heard yet that the node was ever out, and for
    # so long, a second at most, what it read before is what it reads.
    eventually(
        lambda: reader.ring.place(reader.make_key(key)) not in (None, before),
        within_seconds=10,
        what="the reader heard of the change",
    )
    wait_for(reader, node, "up")
    assert reader.get_or_set(key, lambda: (2, "new")) == (2, "new")


def test_an_invalidation_reaches_those_who_have_not_heard_of_a_change(servers: Servers) -> None:
    writer, reader = servers.cache(), servers.cache()
    key = keys_at(writer, servers.nodes[0])[0]
    assert reader.get_or_set(key, lambda: (1, "old")) == (1, "old")
    name = place_of(writer, key)
    # Somebody who can't reach the node ejects it; it lives, and the reader doesn't know yet.
    assert writer.ring.members.change(lambda view, now: ring.eject(view, name, now=now))
    assert writer.invalidate(key, 2)

    assert reader.ring.members.last_view is not None
    assert reader.ring.members.last_view.members[name].is_up
    assert reader.get_or_set(key, lambda: (2, "new")) == (2, "new")


def test_what_a_node_answers_after_it_hung_is_not_believed_once_others_gave_it_up(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ring_nodes, "NODE_TIMEOUT_SECONDS", 10.0)
        patient = servers.cache()
        (key,) = keys_at(patient, servers.nodes[0], number=1)
        assert patient.get_or_set(key, lambda: (1, "old"), 30) == (1, "old")
    writer = servers.cache()
    writer.get(key)
    servers.freeze(servers.nodes[0])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(patient.get_or_set, key, lambda: (2, "new"), 30)
        writer.invalidate(key, 2)
        wait_for(writer, servers.nodes[0], "ejected")
        servers.thaw()
        assert reading.result(20) == (2, "new")


def test_nobody_waits_for_a_node_once_it_is_out(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever still asked it would wait for as long as it hangs."""
    node, impatient = servers.nodes[0], servers.cache()
    keys = keys_at(impatient, node)
    with monkeypatch.context() as patch:
        patch.setattr(ring_nodes, "NODE_TIMEOUT_SECONDS", 600.0)
        patient = servers.cache()
        patient.get_many([*keys, *keys_at(patient, servers.nodes[1])])
    servers.freeze(node)
    use_until_ejected(impatient, node, keys)
    wait_for(patient, node, "ejected")

    assert patient.get_many(keys) == {}
    assert patient.set_many(dict.fromkeys(keys[1:], 2)) == []
    assert [patient.get_or_set(key, lambda: 2) for key in keys] == [2] * len(keys)
    assert [patient.incr(key) for key in keys] == [3] * len(keys)
    eventually(
        patient.ring.members.is_settled,
        within_seconds=SOON_SECONDS,
        what="all have heard, so that who takes away goes to one place",
    )
    patient.delete_many(keys)
    assert all(patient.invalidate(key, 4) for key in keys)
    assert patient.get_many(keys) == {}

    servers.thaw()
    wait_for(patient, node, "up")


def test_with_the_store_down_the_ring_goes_on_without_nodes_that_fail(servers: Servers) -> None:
    cache = servers.cache()
    keys = keys_at(cache, servers.nodes[0])
    others = keys_at(cache, servers.nodes[1])
    cache.set_many(dict.fromkeys([*keys, *others], "value"), timeout=None)
    servers.store.kill()
    servers.freeze(servers.nodes[0])
    for _ in range(FAILURES):
        cache.get_many(keys)

    began = time.monotonic()
    assert cache.get_many([*keys, *others]) == dict.fromkeys(others, "value")
    for _ in range(20):
        cache.get(keys[0])
    assert time.monotonic() - began < 1.0, "a node that failed is not waited for"
    servers.thaw()
    assert cache.get_many(keys) == {}, "nor taken back"

    servers.store.start()
    wait_for(cache, servers.nodes[0], "up")
    assert cache.get_many(keys) == {}
    assert cache.get_many(others) == dict.fromkeys(others, "value")


def test_a_store_that_hangs_makes_everybody_bypass_the_ring(servers: Servers) -> None:
    cache = servers.cache()
    cache.get_or_set("key", lambda: (1, "cached"))
    servers.freeze(servers.store)
    eventually(
        lambda: cache.ring.members.view() is None, within_seconds=5, what="the view is too old"
    )

    assert cache.get_or_set("key", lambda: (2, "loaded")) == (2, "loaded")
    assert not cache.invalidate("key", 3), "it can't be sure"
    servers.thaw()
    eventually(cache.ring.members.view, within_seconds=5, what="it is back")


def test_with_all_nodes_down_each_process_counts_for_itself(servers: Servers) -> None:
    cache = servers.cache()
    cache.set("key", "in the ring")
    for node in servers.nodes:
        node.kill()
    for _ in range(FAILURES):
        cache.get_many([f"key-{n}" for n in range(30)])

    assert cache.get("key") is None
    assert cache.get_or_set("key", lambda: (1, "loaded")) == (1, "loaded")
    assert cache.invalidate("key", 2)
    cache.set("throttle", [1.5, 2.5], 60)
    assert cache.get("throttle") == [1.5, 2.5]
    assert cache.add("once", 1)
    assert not cache.add("once", 1)
    assert cache.incr("once") == 2
    assert cache.touch("once")
    assert cache.set_many({"many": 1}) == ["many"]
    assert cache.get_many(["many", "once"]) == {"many": 1, "once": 2}
    assert cache.delete("throttle")
    assert cache.get("throttle") is None


def test_what_a_process_kept_for_itself_is_invalidated_and_counted_too(servers: Servers) -> None:
    cache = servers.cache()
    for node in servers.nodes:
        node.kill()
    cache.set("user", (1, "old"))
    assert cache.get("user") == (1, "old")
    assert cache.invalidate("user", 2)
    assert cache.get("user") is None

    cache.set("attempts", 1, 1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.incr("attempts"), range(40)))
    assert cache.get("attempts") == 41
    eventually(lambda: "attempts" not in cache, within_seconds=5, what="to count renews no life")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: cache.add("lock", 1), range(40))) == 1


@dataclass
class History:
    """What was committed and served, and whether anybody was served less than was seen before."""

    committed: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    served: int = 0
    loads: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def read(self, cache: RingCache, key: str) -> None:
        least = self.seen.get(key, 0)
        began = time.monotonic()
        version, _ = cache.get_or_set(key, lambda: self.load(key), 30)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        if not least <= version <= self.committed[key]:
            self.wrong.append(f"{key}: {version} after {least}, of {self.committed[key]}")
        self.seen[key] = max(self.seen.get(key, 0), version)
        self.served += 1

    def load(self, key: str) -> tuple[int, str]:
        self.loads += 1
        return self.committed[key], "value"


@contextmanager
def running(*works: Callable[[], Any]) -> Iterator[None]:
    """Each work again and again, in a thread, until the block ends; errors end it too."""
    over, errors = threading.Event(), []

    def repeat(work: Callable[[], Any]) -> None:
        try:
            while not over.is_set():
                work()
        except Exception as exc:  # noqa: BLE001 - told below
            errors.append(exc)

    threads = [threading.Thread(target=repeat, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert errors == []


def test_nothing_older_is_served_after_something_newer_whatever_the_nodes_do(
    servers: Servers,
) -> None:
    """One node is frozen and thawed, one killed and restarted empty, one added, under load."""
    writer, *readers = [servers.cache() for _ in range(4)]
    chance = random.Random(7)  # noqa: S311 - repeatable
    keys = [f"user-{number}" for number in range(40)]
    history = History(committed=dict.fromkeys(keys, 1))
    pace = threading.Event()

    def write() -> None:
        key = chance.choice(keys)
        history.committed[key] += 1
        writer.invalidate(key, history.committed[key])
        pace.wait(0.002)

    def reader(cache: RingCache) -> Callable[[], None]:
        mine = random.Random(id(cache))  # noqa: S311 - not a secret

        def read() -> None:
            history.read(cache, mine.choice(keys))
            pace.wait(0.0005)

        return read

    with running(write, *map(reader, readers)):
        pace.wait(0.5)
        servers.freeze(servers.nodes[0])
        wait_for(writer, servers.nodes[0], "ejected")
        pace.wait(0.3)
        servers.thaw()
        wait_for(writer, servers.nodes[0], "up")
        servers.nodes[1].kill()
        wait_for(writer, servers.nodes[1], "ejected")
        servers.nodes[1].start()
        wait_for(writer, servers.nodes[1], "up")
        added = servers.cache(nodes=NODES + 1)
        wait_for(added, servers.all[NODES], "up")
        pace.wait(0.5)

    eventually(
        lambda: len({told_by(cache) for cache in (writer, *readers, added)}) == 1,
        within_seconds=SOON_SECONDS,
        what="every process agrees on the members",
    )
    assert history.wrong == []
    assert history.served > 500
    assert history.loads < history.served
    assert history.slowest_seconds < 2.0


def told_by(cache: RingCache) -> str:
    """What its process believes of the members, confirmed just now."""
    view = cache.ring.members.view(since=time.monotonic())
    return view.encode() if view else f"nothing, for {id(cache)}"


READS, LONG_READS = 3_000, 1_000_000


@pytest.fixture
def reads(request: pytest.FixtureRequest) -> int:
    """A million with --full."""
    return LONG_READS if request.config.getoption("--full") else READS


def test_what_is_served_is_no_staler_than_the_invalidations_are_late(
    servers: Servers, reads: int, record_testsuite_property: Callable[[str, Any], None]
) -> None:
    """Invalidations delayed, doubled and reordered: each read is as new as what had arrived."""
    writer, reader = servers.cache(), servers.cache()
    chance = random.Random(11)  # noqa: S311 - repeatable
    committed = {f"user-{n}": 1 for n in range(10)}
    arrived = dict(committed)
    late: list[tuple[str, int]] = []
    behind = 0
    for _ in range(reads):
        key = chance.choice(list(committed))
        if chance.random() < 0.1:
            committed[key] += 1
            late += [(key, committed[key])] * chance.choice([1, 2])
            chance.shuffle(late)
        if late and chance.random() < 0.2:
            told, floor = late.pop()
            if writer.invalidate(told, floor):
                arrived[told] = max(arrived[told], floor)
            else:  # a busy machine: whoever can't be sure tries again
                late.append((told, floor))
        version, _ = reader.get_or_set(key, lambda key=key: (committed[key], "value"))
        assert arrived[key] <= version <= committed[key]
        behind += version < committed[key]
    record_testsuite_property("late-invalidations", {"reads": reads, "behind": behind})
    assert 0 < behind < reads, "late invalidations were felt"


def test_ring_commands_tell_where_a_key_is_and_how_even_the_ring_is(
    servers: Servers, settings: Any
) -> None:
    settings.CACHES = {"default": settings_of(servers)}
    cache = servers.cache()
    cache.get_or_set("key", lambda: (3, "value"))

    where = told("ring", "where", "key")
    assert place_of(cache, "key") in where
    assert "version     3" in where
    nodes = told("ring", "nodes")
    assert all(f"127.0.0.1:{node.port}/0" in nodes for node in servers.nodes)
    balance = told("ring", "balance", "--keys", "3000")
    assert balance.count("█") > 60
    assert "if a node joined" in balance
    dropped = place_of(cache, "key")
    told("ring", "drop", dropped)
    view = cache.ring.members.view(since=time.monotonic())
    assert view is not None
    assert view.members[dropped].state == "left"
    assert dropped not in told("ring", "nodes")
    with pytest.raises(CommandError, match="no node nowhere; there are"):
        told("ring", "drop", "nowhere")


def test_metrics_tell_the_state_of_each_node(servers: Servers, settings: Any) -> None:
    settings.CACHES = {"default": settings_of(servers)}
    cache = servers.cache()
    cache.set("key", "value")
    place = place_of(cache, "key")
    before = samples(ring_metrics())
    assert [cache.get("key") for _ in range(5)] == ["value"] * 5
    other = next(node for node in servers.nodes if f":{node.port}/" not in place)
    other.stop()

    told = samples(ring_metrics())

    assert told["ring_node_hits_total", place] == before["ring_node_hits_total", place] + 5
    assert told["ring_node_keys", place] >= 1
    assert [told["ring_node_up", f"127.0.0.1:{n.port}/0"] for n in servers.nodes] == [
        n is not other for n in servers.nodes
    ]
    assert ("ring_node_keys", f"127.0.0.1:{other.port}/0") not in told
    assert told["ring_bypassed", ""] == 0


def samples(families: Iterable[Metric]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("node", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_ring_commands_say_in_one_line_why_they_can_not(servers: Servers, settings: Any) -> None:
    with pytest.raises(CommandError, match="CACHE_URLS is not set"):
        told("ring", "nodes")
    settings.CACHES = {"default": settings_of(servers)}
    with pytest.raises(CommandError, match="--keys is a number"):
        told("ring", "balance", "--keys", "0")
    servers.freeze(servers.store)
    with pytest.raises(CommandError, match="stream server"):
        told("ring", "where", "key")


def settings_of(servers: Servers) -> dict[str, Any]:
    return {
        "BACKEND": "placement.ring.cache.RingCache",
        "LOCATION": [node.url for node in servers.nodes],
        "OPTIONS": {"STORE": servers.store.url},
    }


def told(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()
