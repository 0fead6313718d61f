"""Checks when a process uses its view of the ring, and how it works while the store is down."""

from typing import Any

import pytest

from placement.ring import arrangement as ring
from placement.ring.arrangement import View
from placement.ring.membership import (
    ASK_SECONDS,
    CONFIRMED_SECONDS,
    FAILURES,
    PAUSE_SECONDS,
    SETTLED_SECONDS,
    Membership,
    StoreDown,
    StoreSilent,
)
from tests.support.waiting import eventually

NAMES = ["a:1/0", "b:1/0", "c:1/0"]


class MemoryStore:
    """A store in memory. All processes that use the store share one clock."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.failure: Exception | None = None
        self.seconds = 1000.0
        self.reads = 0

    def read(self) -> str | None:
        self.reads += 1
        if self.failure:
            raise self.failure
        return self.text

    def swap(self, expected: str | None, text: str) -> bool:
        if self.failure:
            raise self.failure
        if self.text != expected:
            return False
        self.text = text
        return True

    def process(self, names: list[str] = NAMES, *, alive: Any = ()) -> Membership:
        return Membership(
            names,
            self,
            probe=lambda name: name in alive,
            now=lambda: int(self.seconds * 1000),
            monotonic=lambda: self.seconds,
        )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def up(view: View | None) -> list[str]:
    assert view is not None
    return [name for name, member in view.members.items() if member.is_up]


def test_the_first_process_creates_the_ring_and_the_others_join_it(store: MemoryStore) -> None:
    first, second = store.process(), store.process()

    assert up(first.view()) == NAMES
    assert second.view() is not None
    assert first.last_view
    assert second.last_view
    assert first.last_view.encode() == second.last_view.encode() == store.text


def test_a_node_added_by_one_process_is_seen_by_all(store: MemoryStore) -> None:
    old = store.process()
    old.view()
    new = store.process([*NAMES, "d:1/0"])

    assert "d:1/0" in up(new.view())
    store.seconds += ASK_SECONDS + 0.01
    assert "d:1/0" in up(old.view())


def test_consecutive_failures_eject_a_node_for_all_processes(store: MemoryStore) -> None:
    one, other = store.process(), store.process()
    one.view(), other.view()

    for _ in range(FAILURES - 1):
        one.record_failure("a:1/0")
    one.record_success("a:1/0")
    one.record_failure("a:1/0")
    assert up(one.view()) == NAMES
    for _ in range(FAILURES - 1):
        one.record_failure("a:1/0")

    assert up(one.view()) == NAMES[1:]
    store.seconds += ASK_SECONDS + 0.01
    assert up(other.view()) == NAMES[1:]


def test_one_failure_ejects_a_node_if_the_caller_asks_for_that(store: MemoryStore) -> None:
    one = store.process()
    one.view()

    one.record_failure("a:1/0", at_once=True)

    assert up(one.view()) == NAMES[1:]


def test_a_view_is_refreshed_only_when_it_is_old(store: MemoryStore) -> None:
    one = store.process()
    for _ in range(10):
        one.view()
    assert store.reads == 1
    store.seconds += ASK_SECONDS + 0.01
    for _ in range(10):
        one.view()
    assert store.reads == 2


def test_a_writer_gets_a_view_that_was_confirmed_after_it_asked(store: MemoryStore) -> None:
    one, other = store.process(), store.process()
    one.view()
    other.view()
    other.record_failure("a:1/0", at_once=True)
    store.seconds += 0.001

    assert up(one.view()) == NAMES, "a reader may lag"
    assert up(one.view(since=store.seconds)) == NAMES[1:]


def test_a_view_is_settled_when_no_process_can_use_an_older_one(store: MemoryStore) -> None:
    """The process uses only its own clock, since the clocks of other processes may be wrong."""
    one, other = store.process(), store.process()
    other.view()
    one.view()
    assert not one.is_settled(), "the view may be new to another process"
    store.seconds += SETTLED_SECONDS + 0.01
    one.view()
    assert one.is_settled()

    other.record_failure("a:1/0", at_once=True)
    assert other._view
    assert not other.is_settled()
    store.seconds += CONFIRMED_SECONDS
    one.view()
    assert not one.is_settled(), "the new view has just arrived"
    store.seconds += SETTLED_SECONDS - 0.01
    one.view()
    assert not one.is_settled()
    store.seconds += 0.02
    assert one.is_settled()


def test_a_view_expires_while_the_store_does_not_answer(
    store: MemoryStore,
) -> None:
    one = store.process()
    one.view()
    store.failure = StoreSilent("timed out")

    store.seconds += CONFIRMED_SECONDS - 0.01
    assert up(one.view()) == NAMES
    assert one.view(since=store.seconds) is None
    store.seconds += 0.02
    assert one.view() is None
    assert one.last_view is not None


def test_a_silent_store_is_asked_again_only_after_a_pause(store: MemoryStore) -> None:
    one = store.process()
    store.failure = StoreSilent("timed out")

    for _ in range(10):
        assert one.view() is None
    assert store.reads == 1
    store.failure = None
    store.seconds += PAUSE_SECONDS + 0.01
    assert up(one.view()) == NAMES


def test_while_the_store_is_down_the_last_view_is_used_without_failed_nodes(
    store: MemoryStore,
) -> None:
    one = store.process()
    one.view()
    before = store.text
    store.failure = StoreDown("connection refused")
    store.seconds += 10 * CONFIRMED_SECONDS

    assert up(one.view()) == NAMES
    for _ in range(FAILURES):
        one.record_failure("a:1/0")
    assert not one.may_use("a:1/0")
    assert one.may_use("b:1/0")
    assert up(one.view()) == NAMES, "no key moves"
    one.record_success("a:1/0")
    store.seconds += 3600
    one.view()
    assert not one.may_use("a:1/0"), "a success doesn't return the node while the store is down"
    assert store.text == before

    store.failure = None
    store.seconds += ASK_SECONDS + 0.01
    assert up(one.view()) == NAMES[1:]
    assert one.may_use("a:1/0")


def test_a_process_that_starts_with_the_store_down_has_no_view(store: MemoryStore) -> None:
    store.failure = StoreDown("connection refused")

    assert store.process().view() is None


@pytest.mark.parametrize("left", [None, "{}", "an older one"])
def test_members_lost_by_the_store_are_restored_with_new_generations(
    store: MemoryStore, left: str | None
) -> None:
    one = store.process()
    one.view()
    older = store.text
    store.seconds += 1
    one.record_failure("a:1/0", at_once=True)
    known = one.last_view
    assert known is not None
    store.text = older if left == "an older one" else left
    store.seconds += ASK_SECONDS + 0.01  # a probe would change the view, and isn't due yet

    view = one.view()

    assert view is not None
    assert up(view) == NAMES[1:]
    for key in map(str, range(100)):
        was, is_now = known.place(key), view.place(key)
        assert was
        assert is_now
        assert was.generation < is_now.generation
    assert store.text == view.encode()


def test_an_ejected_node_that_answers_a_probe_has_a_new_generation(
    store: MemoryStore,
) -> None:
    alive: set[str] = set()
    one = store.process(alive=alive)
    one.view()
    one.record_failure("a:1/0", at_once=True)
    store.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01
    one.view()
    eventually(
        lambda: state_of(store, "a:1/0") == "ejected", within_seconds=5, what="a failed probe"
    )
    alive.add("a:1/0")
    store.seconds += 60
    one.view()
    eventually(lambda: state_of(store, "a:1/0") == "up", within_seconds=5, what="a node in use")

    assert store.text is not None
    view = ring.decode(store.text, now=0)
    assert view.members["a:1/0"].since == view.epoch > view.members["b:1/0"].since


def test_a_probe_that_cannot_be_started_counts_as_unanswered(
    store: MemoryStore, no_thread_starts: None
) -> None:
    one = store.process()
    one.view()
    one.record_failure("a:1/0", at_once=True)
    store.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01

    assert up(one.view()) == NAMES[1:]
    assert state_of(store, "a:1/0") == "ejected"


def test_a_probe_that_raises_an_error_counts_as_unanswered(store: MemoryStore) -> None:
    def raise_error(name: str) -> bool:
        raise ValueError("unexpected")

    one = store.process()
    one._probe = raise_error
    one.view()
    one.record_failure("a:1/0", at_once=True)
    store.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01
    one.view()
    eventually(
        lambda: state_of(store, "a:1/0") == "ejected", within_seconds=5, what="a failed probe"
    )


def state_of(store: MemoryStore, name: str) -> str:
    assert store.text is not None
    return ring.decode(store.text, now=0).members[name].state


def test_only_one_process_probes_a_node(store: MemoryStore) -> None:
    probed: list[str] = []
    processes = [store.process() for _ in range(5)]
    for process in processes:
        process._probe = lambda name: bool(probed.append(name))  # type: ignore[func-returns-value]
        process.view()
    processes[0].record_failure("a:1/0", at_once=True)
    store.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01

    for process in processes:
        process.view()

    eventually(
        lambda: state_of(store, "a:1/0") == "ejected", within_seconds=5, what="a failed probe"
    )
    assert probed == ["a:1/0"]
