"""Checks the place of each key, and which keys a change of members moves, without a server."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from placement.ring import arrangement as ring
from placement.ring import modulo, process
from placement.ring.arrangement import Arrangement, BadNodes, Place, View
from placement.ring.process import ARRANGEMENTS

KEYS = [f"mitosis:1:accounts:user:{number}" for number in range(50_000)]
FEW = KEYS[:60]


def named(number: int) -> list[str]:
    return [f"10.0.0.{n}:6379/0" for n in range(1, number + 1)]


def holders(view: View, keys: list[str] = KEYS) -> list[str]:
    return [place.node for key in keys if (place := view.place(key))]


@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_fifty_thousand_keys_are_spread_evenly(nodes: int) -> None:
    loads = Counter(holders(ring.create_view(named(nodes), now=1)))

    assert len(loads) == nodes
    assert max(loads.values()) <= 1.05 * len(KEYS) / nodes


@pytest.mark.parametrize("nodes", [2, 3, 7])
def test_a_joining_node_takes_its_share_and_no_other_key_moves(nodes: int) -> None:
    view = ring.create_view(named(nodes), now=1)
    joined = ring.join(view, named(nodes + 1), now=2)

    before, after = holders(view), holders(joined)
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]

    assert 0 < len(moved) <= 1.1 * len(KEYS) / (nodes + 1)
    assert {b for _, b in moved} == set(named(nodes + 1)) - set(named(nodes))


@pytest.mark.parametrize("nodes", [3, 7])
def test_only_the_keys_of_an_ejected_node_move(nodes: int) -> None:
    view = ring.create_view(named(nodes), now=1)
    gone = named(nodes)[0]

    before, after = holders(view), holders(ring.eject(view, gone, now=2))
    moved = [a for a, b in zip(before, after, strict=True) if a != b]

    assert set(moved) == {gone}
    assert len(moved) <= 1.1 * len(KEYS) / nodes
    assert gone not in after


@pytest.mark.parametrize("nodes", [3, 7])
def test_modulo_moves_most_keys_when_a_node_leaves_and_returns(nodes: int) -> None:
    view = ring.create_view(named(nodes), now=1)
    left = ring.leave(view, named(nodes)[-1], now=2)
    views = (view, left, ring.join(left, named(nodes), now=3))
    before, without, after = (
        [place.node for key in KEYS if (place := modulo.place(each, key))] for each in views
    )
    moved = sum(a != b for a, b in zip(before, without, strict=True)) / len(KEYS)

    assert moved == pytest.approx(1 - 1 / nodes, rel=0.05)
    assert max(Counter(before).values()) <= 1.05 * len(KEYS) / nodes
    assert after == before


CHANGES = ("eject", "join", "leave", "probe", "forget_all")


@pytest.mark.parametrize("place", [View.place, modulo.place])
@given(
    steps=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 3), st.integers(-50, 50))),
)
@example(steps=[("eject", 0, 5), ("probe", 0, 5), ("eject", 0, 5)])
@example(steps=[("eject", 0, -50), ("probe", 0, 0), ("eject", 0, 0), ("probe", 0, -50)])
def test_a_key_never_returns_to_a_former_place(
    place: Callable[[View, str], Place | None], steps: list[tuple[str, int, int]]
) -> None:
    """Data that a node kept from an earlier time has another generation, even if clocks jump."""
    keeps_generations = place is View.place or len(steps) <= ring.PAST
    names = named(5)
    view = ring.create_view(names[:3], now=1000)
    now = 1000
    former: set[tuple[str, Place | None]] = set()
    for change, which, ahead in steps:
        now += ahead
        after = changed(view, change, names[which], now)
        for key in FEW:
            was, is_now = place(view, key), place(after, key)
            assert (key, is_now) not in former or is_now is None
            if was != is_now:
                former.add((key, was))
            stays = was and is_now and was.node == is_now.node and change != "forget_all"
            if stays and keeps_generations:
                assert was == is_now, "a key that stays on its node keeps its generation"
        assert ring.decode(after.encode(), now=now).encode() == after.encode()
        view = after


def changed(view: View, change: str, name: str, now: int) -> View:
    match change:
        case "eject":
            return ring.eject(view, name, now=now)
        case "join":
            return ring.join(view, [name], now=now)
        case "leave":
            return ring.leave(view, name, now=now)
        case "forget_all":
            return ring.forget_all(view, now=now)
    if name not in view.members:
        return view
    due = view.members[name].due
    probing = ring.start_probe(view, name, now=max(now, due))
    return ring.end_probe(probing, name, answered=True, now=now)


def test_one_process_probes_a_node_with_growing_pauses() -> None:
    name = named(1)[0]
    view = ring.eject(ring.create_view(named(2), now=0), name, now=10_000)
    pauses = []
    for _ in range(8):
        due = view.members[name].due
        assert ring.start_probe(view, name, now=due - 1) is view
        probing = ring.start_probe(view, name, now=due)
        assert ring.start_probe(probing, name, now=due) is probing, "another process is probing"
        assert probing.epoch == view.epoch, "a probe moves no key"
        view = ring.end_probe(probing, name, answered=False, now=due)
        pauses.append(view.members[name].due - due)

    assert pauses[0] < pauses[1] < pauses[-1] == ring.LONGEST_PAUSE_MS


def test_the_probe_of_a_dead_process_is_taken_over() -> None:
    view = ring.eject(ring.create_view(named(2), now=0), named(1)[0], now=0)
    probing = ring.start_probe(view, named(1)[0], now=ring.FIRST_PROBE_MS)

    assert probing.due(now=ring.FIRST_PROBE_MS) == []
    due = ring.FIRST_PROBE_MS + ring.PROBE_MS
    assert probing.due(now=due) == named(1)
    assert probing.due(now=due - ring.LONGEST_PAUSE_MS - 1) == named(1), "of another clock"


@pytest.mark.parametrize("how", ARRANGEMENTS)
def test_an_invalidation_covers_every_place_that_a_process_may_use(how: str) -> None:
    place, places = ARRANGEMENTS[how]
    view = ring.create_view(named(3), now=1000)
    key = KEYS[0]
    was = place(view, key)
    assert was is not None
    moved = ring.eject(view, was.node, now=5000)

    assert places(moved, key, settled=False) == [place(moved, key), was]
    assert places(moved, key, settled=True) == [place(moved, key)]
    again = ring.eject(moved, place(moved, key).node, now=999_999)  # type: ignore[union-attr]
    assert was in places(again, key, settled=False), "even if clocks jump"


def test_a_key_has_no_place_if_no_node_is_up() -> None:
    view = ring.create_view(named(2), now=1)
    for name in named(2):
        view = ring.eject(view, name, now=2)

    assert view.place("key") is None
    assert Arrangement({}).place("key") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", '{"epoch":1}', "[" * 100_000, '{"x":' * 100_000),
        '{"epoch":1e999,"nodes":{},"past":[]}',
        '{"epoch":9007199254740992,"nodes":{},"past":[]}',  # no clock would ever reach it
        '{"epoch":1,"nodes":{},"past":[]}' + " " * ring.LONGEST_VIEW,
        '{"epoch":1,"nodes":{"a:1/0":["?",1,0,0,""]},"past":[]}',
        '{"epoch":1,"nodes":{"a:1/0":["up",2,0,0,""]},"past":[]}',  # after the epoch
        '{"epoch":1,"nodes":{"a:1/0":["up",1,0,-9,""]},"past":[]}',
        '{"epoch":1,"nodes":{},"past":[{"a:1/0":[true,1]}]}',
        *(
            f'{{"epoch":1,"nodes":{{"{name}":["up",1,0,0,""]}},"past":[]}}'
            for name in ("a", "a:port/0", "a..b:1/0", f"{'a' * 64}:1/0", "a\\u0000:1/0", "u@a:1/0")
        ),
    ],
    ids=lambda text: text[:60],
)
def test_text_that_is_not_a_view_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        ring.decode(text, now=0)


@pytest.mark.parametrize(
    ("urls", "check", "why"),
    [
        (["redis://h:1/0", "redis://h:port/0"], "ring.E001", "node 2"),
        (["http://h:1"], "ring.E001", "node 1"),
        (["redis://:secret@"], "ring.E001", "node 1"),
        (["redis://:secret@a..b:1"], "ring.E001", "node 1"),
        (["redis://h:99999"], "ring.E001", "node 1"),
        (["redis://h:1/db"], "ring.E001", "node 1"),
        (["redis://h/0", "redis://:secret@H:6379/0"], "ring.E002", "node 2.*node 1"),
        (["redis://h:1/0", "redis://h:1/1"], "ring.E002", "node 2.*node 1"),
        (["redis://localhost:1", "redis://127.0.0.1:1"], "ring.E002", "node 2.*node 1"),
    ],
)
def test_invalid_node_addresses_are_reported_without_passwords(
    urls: list[str], check: str, why: str
) -> None:
    with pytest.raises(BadNodes, match=why) as caught:
        ring.name_nodes(urls)
    assert caught.value.check == check
    assert "secret" not in str(caught.value)


def test_racing_first_calls_get_the_same_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    class Slow(process.Ring):
        def __init__(self, *about: Any, **options: Any) -> None:
            super().__init__(*about, **options)
            both.wait(10)

    monkeypatch.setattr(process, "Ring", Slow)
    monkeypatch.setattr(process, "rings", {})

    def connect(_: int) -> process.Ring:
        return process.connect(("redis://a:1/0",), store_url="redis://b:1/0")

    with ThreadPoolExecutor(2) as executor:
        first, second = executor.map(connect, range(2))
    assert first is second is connect(0)


def test_a_node_is_named_after_its_address() -> None:
    urls = ["redis://:secret@cache-1", "rediss://u:p@[::1]:7000/3", "unix:///run/cache.sock"]

    assert list(ring.name_nodes(urls)) == ["cache-1:6379/0", "[::1]:7000/3", "/run/cache.sock"]


def test_a_place_is_the_same_in_every_process_and_release() -> None:
    view = ring.create_view(named(3), now=7)

    assert view.place("mitosis:1:golden") == Place("10.0.0.1:6379/0", 7)


def test_a_restarted_node_gets_a_new_generation_and_no_other_key_moves() -> None:
    view = ring.create_view(named(3), now=1000)
    name = named(3)[0]
    known = ring.record_run(view, name, "first run", now=1001)
    assert known.arrangement.members == view.arrangement.members, (
        "the first run_id that is reported moves no key"
    )
    assert ring.record_run(known, name, "first run", now=1002) is known
    before = {key: known.place(key) for key in FEW}

    again = ring.decode(known.encode(), now=1002)
    after = ring.record_run(again, name, "second run", now=1003)
    for key in FEW:
        place, was = after.place(key), before[key]
        assert place is not None
        assert was is not None
        assert place.node == was.node
        assert (place == was) is (was.node != name)


def test_a_node_that_returns_keeps_its_run() -> None:
    name = named(3)[0]
    view = ring.record_run(ring.create_view(named(3), now=1000), name, "first run", now=1001)
    view = changed(ring.eject(view, name, now=2000), "probe", name, 4000)

    assert view.members[name].run == "first run"
    assert ring.record_run(view, name, "second run", now=5000).members[name].since == 5000
