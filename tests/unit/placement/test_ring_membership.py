"""When a process trusts its view of the ring, and what it does when the store is away."""

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


class Shelf:
    """A store in memory, and the clock of everybody who uses it."""

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
def shelf() -> Shelf:
    return Shelf()


def up(view: View | None) -> list[str]:
    assert view is not None
    return [name for name, member in view.members.items() if member.is_up]


def test_the_first_process_creates_the_ring_and_the_others_join_it(shelf: Shelf) -> None:
    first, second = shelf.process(), shelf.process()

    assert up(first.view()) == NAMES
    assert second.view() is not None
    assert first.last_view
    assert second.last_view
    assert first.last_view.encode() == second.last_view.encode() == shelf.text


def test_a_node_added_by_one_process_is_seen_by_all(shelf: Shelf) -> None:
    old = shelf.process()
    old.view()
    new = shelf.process([*NAMES, "d:1/0"])

    assert "d:1/0" in up(new.view())
    shelf.seconds += ASK_SECONDS + 0.01
    assert "d:1/0" in up(old.view())


def test_consecutive_failures_eject_a_node_for_all_processes(shelf: Shelf) -> None:
    one, other = shelf.process(), shelf.process()
    one.view(), other.view()

    for _ in range(FAILURES - 1):
        one.failed("a:1/0")
    one.worked("a:1/0")
    one.failed("a:1/0")
    assert up(one.view()) == NAMES
    for _ in range(FAILURES - 1):
        one.failed("a:1/0")

    assert up(one.view()) == NAMES[1:]
    shelf.seconds += ASK_SECONDS + 0.01
    assert up(other.view()) == NAMES[1:]


def test_one_failure_ejects_a_node_if_it_matters_at_once(shelf: Shelf) -> None:
    one = shelf.process()
    one.view()

    one.failed("a:1/0", at_once=True)

    assert up(one.view()) == NAMES[1:]


def test_a_view_is_refreshed_only_when_it_is_old(shelf: Shelf) -> None:
    one = shelf.process()
    for _ in range(10):
        one.view()
    assert shelf.reads == 1
    shelf.seconds += ASK_SECONDS + 0.01
    for _ in range(10):
        one.view()
    assert shelf.reads == 2


def test_a_writer_gets_a_view_that_was_confirmed_after_it_asked(shelf: Shelf) -> None:
    one, other = shelf.process(), shelf.process()
    one.view()
    other.view()
    other.failed("a:1/0", at_once=True)
    shelf.seconds += 0.001

    assert up(one.view()) == NAMES, "a reader may lag"
    assert up(one.view(since=shelf.seconds)) == NAMES[1:]


def test_a_view_is_settled_when_no_process_can_use_an_older_one(shelf: Shelf) -> None:
    """By one's own clock: those of others may be wrong."""
    one, other = shelf.process(), shelf.process()
    other.view()
    one.view()
    assert not one.is_settled(), "it may be new to somebody"
    shelf.seconds += SETTLED_SECONDS + 0.01
    one.view()
    assert one.is_settled()

    other.failed("a:1/0", at_once=True)
    assert other._view
    assert not other.is_settled()
    shelf.seconds += CONFIRMED_SECONDS
    one.view()
    assert not one.is_settled(), "it heard just now"
    shelf.seconds += SETTLED_SECONDS - 0.01
    one.view()
    assert not one.is_settled()
    shelf.seconds += 0.02
    assert one.is_settled()


def test_a_view_expires_while_the_store_does_not_answer(
    shelf: Shelf,
) -> None:
    one = shelf.process()
    one.view()
    shelf.failure = StoreSilent("timed out")

    shelf.seconds += CONFIRMED_SECONDS - 0.01
    assert up(one.view()) == NAMES
    assert one.view(since=shelf.seconds) is None
    shelf.seconds += 0.02
    assert one.view() is None
    assert one.last_view is not None


def test_a_silent_store_is_asked_again_only_after_a_pause(shelf: Shelf) -> None:
    one = shelf.process()
    shelf.failure = StoreSilent("timed out")

    for _ in range(10):
        assert one.view() is None
    assert shelf.reads == 1
    shelf.failure = None
    shelf.seconds += PAUSE_SECONDS + 0.01
    assert up(one.view()) == NAMES


def test_the_last_view_holds_without_its_failed_nodes_while_the_store_is_down(
    shelf: Shelf,
) -> None:
    one = shelf.process()
    one.view()
    before = shelf.text
    shelf.failure = StoreDown("connection refused")
    shelf.seconds += 10 * CONFIRMED_SECONDS

    assert up(one.view()) == NAMES
    for _ in range(FAILURES):
        one.failed("a:1/0")
    assert not one.may_use("a:1/0")
    assert one.may_use("b:1/0")
    assert up(one.view()) == NAMES, "nothing is moved"
    one.worked("a:1/0")
    shelf.seconds += 3600
    one.view()
    assert not one.may_use("a:1/0"), "nor taken back"
    assert shelf.text == before

    shelf.failure = None
    shelf.seconds += ASK_SECONDS + 0.01
    assert up(one.view()) == NAMES[1:]
    assert one.may_use("a:1/0")


def test_a_process_that_starts_with_the_store_down_has_no_view(shelf: Shelf) -> None:
    shelf.failure = StoreDown("connection refused")

    assert shelf.process().view() is None


@pytest.mark.parametrize("left", [None, "{}", "an older one"])
def test_members_lost_by_the_store_are_restored_with_new_generations(
    shelf: Shelf, left: str | None
) -> None:
    one = shelf.process()
    one.view()
    older = shelf.text
    shelf.seconds += 1
    one.failed("a:1/0", at_once=True)
    known = one.last_view
    assert known is not None
    shelf.text = older if left == "an older one" else left
    shelf.seconds += 1

    view = one.view()

    assert view is not None
    assert up(view) == NAMES[1:]
    for key in map(str, range(100)):
        was, is_now = known.place(key), view.place(key)
        assert was
        assert is_now
        assert was.generation < is_now.generation
    assert shelf.text == view.encode()


def test_an_ejected_node_that_answers_a_probe_has_a_new_generation(
    shelf: Shelf,
) -> None:
    alive: set[str] = set()
    one = shelf.process(alive=alive)
    one.view()
    one.failed("a:1/0", at_once=True)
    shelf.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01
    one.view()
    eventually(lambda: state_of(shelf, "a:1/0") == "ejected", within_seconds=5, what="it failed")
    alive.add("a:1/0")
    shelf.seconds += 60
    one.view()
    eventually(lambda: state_of(shelf, "a:1/0") == "up", within_seconds=5, what="it is back")

    assert shelf.text is not None
    view = ring.decode(shelf.text)
    assert view.members["a:1/0"].since == view.epoch > view.members["b:1/0"].since


def state_of(shelf: Shelf, name: str) -> str:
    assert shelf.text is not None
    return ring.decode(shelf.text).members[name].state


def test_only_one_process_probes_a_node(shelf: Shelf) -> None:
    probed: list[str] = []
    processes = [shelf.process() for _ in range(5)]
    for process in processes:
        process._probe = lambda name: bool(probed.append(name))  # type: ignore[func-returns-value]
        process.view()
    processes[0].failed("a:1/0", at_once=True)
    shelf.seconds += ring.FIRST_PROBE_MS / 1000 + 0.01

    for process in processes:
        process.view()

    eventually(lambda: state_of(shelf, "a:1/0") == "ejected", within_seconds=5, what="it failed")
    assert probed == ["a:1/0"]
