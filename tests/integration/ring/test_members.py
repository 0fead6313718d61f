"""Nodes hang, die, return empty and join: caches serve no old value, and processes agree."""

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
from placement.ring import process as ring_process
from placement.ring.cache import RingCache
from placement.ring.membership import FAILURES
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
        lambda: state_of(cache, server) == state,
        within_seconds=SOON_SECONDS,
        what=f"a node that is {state}",
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
    raise AssertionError("the node holds too few keys")


def use_until_ejected(cache: RingCache, server: Valkey, keys: list[str]) -> None:
    eventually(
        lambda: (cache.get_many(keys), state_of(cache, server) == "ejected")[1],
        within_seconds=SOON_SECONDS,
        what="a node that is ejected",
    )


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_node_that_fails_three_times_is_ejected_for_every_process(
    servers: Servers, how: str
) -> None:
    node = servers.nodes[0]
    one, other = servers.cache(), servers.cache()
    other.get("anything")
    keys = keys_at(one, node)
    servers.freeze(node) if how == "freeze" else node.kill()

    for _ in range(FAILURES):
        one.set(keys[0], "kept in this process for a minute")
    assert FAILURES * ring_nodes.NODE_TIMEOUT_SECONDS < 1.0

    assert state_of(one, node) in ("ejected", "probing")
    wait_for(other, node, "ejected")
    one.set(keys[0], "elsewhere")
    assert other.get(keys[0]) == "elsewhere"


def test_neither_a_returned_node_nor_its_stand_in_serves_old_values(servers: Servers) -> None:
    node = servers.nodes[0]
    cache = servers.cache()
    keys = keys_at(cache, node)
    for turn in range(2):
        cache.set_many(dict.fromkeys(keys, f"before {turn}"), timeout=None)
        servers.freeze(node)
        use_until_ejected(cache, node, keys)
        assert cache.get_many(keys) == {}, "the stand-in has no value from an earlier turn"
        cache.set_many(dict.fromkeys(keys, f"meanwhile {turn}"), timeout=None)
        assert set(cache.get_many(keys).values()) == {f"meanwhile {turn}"}
        servers.thaw()
        wait_for(cache, node, "up")
        assert cache.get_many(keys) == {}


def test_other_nodes_keep_their_keys_when_one_leaves_and_returns(servers: Servers) -> None:
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


@pytest.mark.usefixtures("patient_ring")
def test_a_killed_node_that_returns_empty_is_used_again(servers: Servers) -> None:
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


@pytest.mark.usefixtures("patient_ring")
def test_a_node_added_by_one_process_is_used_by_all(servers: Servers) -> None:
    """A deployment gives one process after the other a longer CACHE_URLS."""
    old = servers.cache()
    values = {f"key-{number}": number for number in range(600)}
    old.set_many(values)
    new = servers.cache(nodes=NODES + 1)

    wait_for(new, servers.all[NODES], "up")
    eventually(
        lambda: len(old.ring.members.view().members) == NODES + 1,  # type: ignore[union-attr]
        within_seconds=SOON_SECONDS,
        what="the new node in the view of the old process",
    )
    kept = new.get_many(values)
    assert 1 - 1.35 / (NODES + 1) < len(kept) / len(values) < 1, "only the new node's keys are lost"
    assert old.get_many(values) == kept
    key = next(key for key in values if key not in kept)
    new.set(key, "there")
    assert old.get(key) == "there", "the process uses a node that its CACHE_URLS doesn't name"


AGREE = """
import json, sys
from django.conf import settings
settings.configure()
from placement.ring import nodes
from placement.ring.process import connect
nodes.STORE_TIMEOUT_SECONDS = 10.0
store, *urls = sys.argv[1:]
ring = connect(tuple(urls), store_url=store)
view = ring.members.view()
print(json.dumps([view.epoch, sorted(n for n, m in view.members.items() if m.is_up)]))
print([ring.place(f"key-{n}").node for n in range(200)])
"""


@pytest.mark.usefixtures("patient_ring")
def test_every_process_agrees_on_members_and_places(servers: Servers) -> None:
    cache = servers.cache()
    keys = keys_at(cache, servers.nodes[2])
    servers.nodes[2].kill()
    use_until_ejected(cache, servers.nodes[2], keys)
    urls = [node.url for node in servers.nodes]
    outputs = set()
    for order in (urls, urls[::-1]):
        command = [sys.executable, "-c", AGREE, servers.store.url, *order]
        outputs.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    (output,) = outputs
    members, places = output.splitlines()
    _, living = json.loads(members)
    assert len(living) == NODES - 1
    assert not any(f":{servers.nodes[2].port}/" in name for name in living)
    assert places == str([cache.ring.place(f"key-{n}").node for n in range(200)])  # type: ignore[union-attr]


def test_an_invalidation_that_a_node_does_not_confirm_ejects_it(servers: Servers) -> None:
    node = servers.nodes[0]
    writer, reader = servers.cache(), servers.cache()
    key = keys_at(writer, node)[0]
    assert reader.get_or_set(key, lambda: (1, "old")) == (1, "old")
    before = reader.ring.place(reader.make_key(key))
    servers.freeze(node)

    assert writer.invalidate(key, 2), "the invalidation is certain, since the node is ejected"

    servers.thaw()
    # The state "up" isn't enough: for up to a second the reader may still have the view from
    # before the ejection and could read the old value.
    eventually(
        lambda: reader.ring.place(reader.make_key(key)) not in (None, before),
        within_seconds=10,
        what="the new view at the reader",
    )
    wait_for(reader, node, "up")
    assert reader.get_or_set(key, lambda: (2, "new")) == (2, "new")


@pytest.mark.usefixtures("patient_ring")
def test_an_invalidation_reaches_processes_with_an_older_view(servers: Servers) -> None:
    writer, reader = servers.cache(), servers.cache()
    key = keys_at(writer, servers.nodes[0])[0]
    assert reader.get_or_set(key, lambda: (1, "old")) == (1, "old")
    name = place_of(writer, key)
    # The writer ejects a node that is alive; the reader doesn't have the new view yet.
    assert writer.ring.members.change(lambda view, now: ring.eject(view, name, now=now))
    assert writer.invalidate(key, 2)

    assert reader.ring.members.last_view is not None
    assert reader.ring.members.last_view.members[name].is_up
    assert reader.get_or_set(key, lambda: (2, "new")) == (2, "new")


def test_a_late_answer_of_a_hung_node_is_discarded_after_its_ejection(
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


def test_no_call_waits_for_an_ejected_node(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache has a long timeout, so a call to the ejected node would hang."""
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
        what="a settled view, so that deletes go to one place",
    )
    patient.delete_many(keys)
    assert all(patient.invalidate(key, 4) for key in keys)
    assert patient.get_many(keys) == {}

    servers.thaw()
    wait_for(patient, node, "up")


def test_the_ring_works_without_failed_nodes_while_the_store_is_down(servers: Servers) -> None:
    cache = servers.cache()
    keys = keys_at(cache, servers.nodes[0])
    others = keys_at(cache, servers.nodes[1])
    cache.set_many(dict.fromkeys([*keys, *others], "value"), timeout=None)
    servers.store.kill()
    servers.freeze(servers.nodes[0])
    for _ in range(FAILURES):
        cache.get_many(keys)

    failures = cache.ring.counts["failures"]
    assert cache.get_many([*keys, *others]) == dict.fromkeys(others, "value")
    for _ in range(20):
        cache.get(keys[0])
    assert cache.ring.counts["failures"] == failures, "the cache must not query a failed node"
    servers.thaw()
    assert cache.get_many(keys) == {}, "the cache must not use the failed node again"

    servers.store.start()
    wait_for(cache, servers.nodes[0], "up")
    assert cache.get_many(keys) == {}
    assert cache.get_many(others) == dict.fromkeys(others, "value")


@pytest.mark.usefixtures("impatient_with_the_store")
def test_the_ring_is_bypassed_while_the_store_hangs(servers: Servers) -> None:
    cache = servers.cache()
    cache.get_or_set("key", lambda: (1, "cached"))
    servers.freeze(servers.store)
    eventually(lambda: cache.ring.members.view() is None, within_seconds=5, what="an expired view")

    assert cache.get_or_set("key", lambda: (2, "loaded")) == (2, "loaded")
    assert not cache.invalidate("key", 3), "the invalidation is not certain"
    servers.thaw()
    eventually(cache.ring.members.view, within_seconds=5, what="a confirmed view")


@pytest.mark.usefixtures("patient_ring")
def test_each_process_caches_for_itself_while_all_nodes_are_down(servers: Servers) -> None:
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


@pytest.mark.usefixtures("patient_ring")
def test_values_kept_by_the_process_are_invalidated_and_counted_too(servers: Servers) -> None:
    cache = servers.cache()
    for node in servers.nodes:
        node.kill()
    cache.set("user", (1, "old"))
    assert cache.get("user") == (1, "old")
    assert cache.invalidate("user", 2)
    assert cache.get("user") is None

    cache.set("attempts", 1, 60)
    expiry = expiry_in_process(cache, "attempts")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.incr("attempts"), range(40)))
    assert cache.get("attempts") == 41
    assert expiry_in_process(cache, "attempts") == expiry, "counting keeps the time of expiry"
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: cache.add("lock", 1), range(40))) == 1


def expiry_in_process(cache: RingCache, key: str) -> float:
    expiry, _ = cache.ring.gutter._entries[cache.make_key(key)]
    return expiry


@dataclass
class History:
    """Versions of each key; `wrong` has reads older than an earlier read of their key.

    A reader that bypasses the ring gets a committed version before its invalidation has returned.
    Until then, other processes may still serve the version before it; its own process doesn't.
    """

    committed: dict[str, int] = field(default_factory=dict)
    invalidated: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    seen_by: dict[tuple[int, str], int] = field(default_factory=dict)  # each process and key
    served: int = 0
    loads: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def read(self, cache: RingCache, key: str) -> None:
        own = (id(cache), key)
        least = max(self.seen.get(key, 0), self.seen_by.get(own, 0))
        start = time.monotonic()
        version, _ = cache.get_or_set(key, lambda: self.load(key), 30)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - start)
        if not least <= version <= self.committed[key]:
            self.wrong.append(f"{key}: {version} after {least}, of {self.committed[key]}")
        self.seen[key] = max(self.seen.get(key, 0), min(version, self.invalidated.get(key, 0)))
        self.seen_by[own] = version
        self.served += 1

    def load(self, key: str) -> tuple[int, str]:
        self.loads += 1
        return self.committed[key], "value"


@contextmanager
def running(*works: Callable[[], Any]) -> Iterator[None]:
    """Repeat each function in a thread until the block ends; fail if one raised an error."""
    done, errors = threading.Event(), []

    def repeat(work: Callable[[], Any]) -> None:
        try:
            while not done.is_set():
                work()
        except Exception as exc:  # noqa: BLE001 - asserted below
            errors.append(exc)

    threads = [threading.Thread(target=repeat, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(20)
    assert errors == []


def test_no_older_value_is_served_after_a_newer_one_while_nodes_fail_and_join(
    servers: Servers,
) -> None:
    """Under load, one node is frozen and thawed, one restarts empty, and one is added."""
    writer, *readers = [servers.cache() for _ in range(4)]
    chance = random.Random(7)  # noqa: S311 - repeatable
    keys = [f"user-{number}" for number in range(40)]
    history = History(committed=dict.fromkeys(keys, 1))
    pace = threading.Event()

    def write() -> None:
        key = chance.choice(keys)
        history.committed[key] += 1
        if writer.invalidate(key, history.committed[key]):
            history.invalidated[key] = history.committed[key]
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
        lambda: len({confirmed_view(cache) for cache in (writer, *readers, added)}) == 1,
        within_seconds=SOON_SECONDS,
        what="one view in every process",
    )
    assert history.wrong == []
    assert len(history.invalidated) > len(keys) / 2
    assert history.served > 500
    assert history.loads < history.served
    assert history.slowest_seconds < 10.0, "no reader hangs"


def confirmed_view(cache: RingCache) -> str:
    """The confirmed view of the process; without a view, a string that only this cache has."""
    view = cache.ring.members.view(since=time.monotonic())
    return view.encode() if view else f"no view in {id(cache)}"


READS, LONG_READS = 3_000, 1_000_000


@pytest.fixture
def reads(request: pytest.FixtureRequest) -> int:
    """The number of reads: a million with --full."""
    return LONG_READS if request.config.getoption("--full") else READS


@pytest.mark.usefixtures("patient_ring")
def test_each_read_is_as_new_as_the_invalidations_that_have_arrived(
    servers: Servers, reads: int, record_testsuite_property: Callable[[str, Any], None]
) -> None:
    """Invalidations are delayed, duplicated and reordered."""
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
            changed, floor = late.pop()
            if writer.invalidate(changed, floor):
                arrived[changed] = max(arrived[changed], floor)
            else:  # not confirmed, on a busy machine: try again later
                late.append((changed, floor))
        version, _ = reader.get_or_set(key, lambda key=key: (committed[key], "value"))
        assert arrived[key] <= version <= committed[key]
        behind += version < committed[key]
    record_testsuite_property("late-invalidations", {"reads": reads, "behind": behind})
    assert 0 < behind < reads, "some reads are older than the last commit"


@pytest.mark.usefixtures("patient_ring")
def test_ring_commands_show_places_nodes_and_balance(servers: Servers, settings: Any) -> None:
    settings.CACHES = {"default": settings_of(servers)}
    cache = servers.cache()
    cache.get_or_set("key", lambda: (3, "value"))

    where = output_of("ring", "where", "key")
    assert place_of(cache, "key") in where
    assert "version     3" in where
    nodes = output_of("ring", "nodes")
    assert all(f"127.0.0.1:{node.port}/0" in nodes for node in servers.nodes)
    balance = output_of("ring", "balance", "--keys", "3000")
    assert balance.count("█") > 60
    assert "if a node joined" in balance
    dropped = place_of(cache, "key")
    output_of("ring", "drop", dropped)
    view = cache.ring.members.view(since=time.monotonic())
    assert view is not None
    assert view.members[dropped].state == "left"
    assert dropped not in output_of("ring", "nodes")
    with pytest.raises(CommandError, match="no node nowhere; there are"):
        output_of("ring", "drop", "nowhere")


@pytest.mark.usefixtures("patient_ring")
def test_metrics_report_the_state_of_each_node(servers: Servers, settings: Any) -> None:
    settings.CACHES = {"default": settings_of(servers)}
    cache = servers.cache()
    cache.set("key", "value")
    place = place_of(cache, "key")
    before = samples(ring_metrics())
    assert [cache.get("key") for _ in range(5)] == ["value"] * 5
    other = next(node for node in servers.nodes if f":{node.port}/" not in place)
    other.stop()

    after = samples(ring_metrics())

    assert after["ring_node_hits_total", place] == before["ring_node_hits_total", place] + 5
    assert after["ring_node_keys", place] >= 1
    assert [after["ring_node_up", f"127.0.0.1:{n.port}/0"] for n in servers.nodes] == [
        n is not other for n in servers.nodes
    ]
    assert ("ring_node_keys", f"127.0.0.1:{other.port}/0") not in after
    assert after["ring_bypassed", ""] == 0


def samples(families: Iterable[Metric]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("node", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_ring_commands_fail_with_a_one_line_reason(
    servers: Servers, settings: Any, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(CommandError, match="default cache of CACHES is no ring"):
        output_of("ring", "nodes")
    settings.CACHES = {"default": settings_of(servers)}
    with pytest.raises(CommandError, match="--keys is a number"):
        output_of("ring", "balance", "--keys", "0")
    with pytest.raises(CommandError, match="nothing for the key 'absent'"):
        output_of("ring", "where", "absent")
    request.getfixturevalue("impatient_with_the_store")
    ring_process.rings.clear()
    settings.CACHES = {"default": settings_of(servers)}
    servers.freeze(servers.store)
    with pytest.raises(CommandError, match="server in STORE"):
        output_of("ring", "where", "key")


def settings_of(servers: Servers) -> dict[str, Any]:
    return {
        "BACKEND": "placement.ring.cache.RingCache",
        "LOCATION": [node.url for node in servers.nodes],
        "OPTIONS": {"STORE": servers.store.url},
    }


def output_of(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()
