"""Each technique next to its absence. (The read-write split: integration/placement.)"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connections

from lab import event_driven, event_store, ways
from lab.copy.models import UserCopy
from lab.models import OutboxEvent, UserEvent, UserSnapshot
from lab.rows import RowUsers
from lab.users import Answer, UserNotFound, Users
from outbox.testing import deliver, recorded
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)
Settle = Callable[[Users], None]
READERS = 5
WITHIN_SECONDS = 30.0


@pytest.fixture
def on_load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that sets a callback, which runs after each read of a row."""
    read = RowUsers.get

    def set_callback(callback: Callable[[], object]) -> None:
        def read_and_call(users: RowUsers, user_id: str) -> Answer:
            found = read(users, user_id)
            callback()
            return found

        monkeypatch.setattr(RowUsers, "get", read_and_call)

    return set_callback


def together(users: Users) -> list[Answer]:
    """Read the user in READERS threads at the same time."""
    started = threading.Barrier(READERS)

    def read(_: int) -> Answer:
        started.wait(timeout=WITHIN_SECONDS)
        try:
            return users.get("ada")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, range(READERS)))


def in_thread(work: Callable[[], object]) -> None:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result(timeout=WITHIN_SECONDS)


def test_with_leases_one_reader_loads_and_the_others_wait(nodes: Any, on_load: Any) -> None:
    ways.open("centralized", "primary").create("Ada", user_id="ada")
    counts = caches["lab-node"].ring.counts  # type: ignore[attr-defined]
    on_load(
        lambda: eventually(
            lambda: counts["waits"] >= READERS - 1,
            within_seconds=WITHIN_SECONDS,
            what="readers that wait for the lease",
        )
    )
    answers = together(ways.open("centralized", "cache"))

    assert counts["loads"] == 1
    assert sorted(answer.served_by for answer in answers) == ["primary", *["ring-0"] * 4]


def test_without_leases_every_reader_loads(nodes: Any, on_load: Any) -> None:
    ways.open("centralized", "primary").create("Ada", user_id="ada")
    all_load = threading.Barrier(READERS)
    on_load(lambda: all_load.wait(timeout=WITHIN_SECONDS))
    answers = together(ways.open("centralized", "cache-without-leases"))

    assert [answer.served_by for answer in answers] == ["primary"] * READERS


@pytest.mark.parametrize(("variant", "read"), [("cache", "new"), ("cache-without-leases", "old")])
def test_only_without_leases_a_slow_reader_stores_an_overwritten_user(
    nodes: Any, on_load: Any, variant: str, read: str
) -> None:
    users = ways.open("centralized", variant)
    users.create("old", user_id="ada")
    pending = [lambda: in_thread(lambda: users.update("ada", "new"))]
    on_load(lambda: pending.pop()() if pending else None)
    users.get("ada")  # it loads the old user; the new one is written before it stores

    assert users.get("ada").name == read


@pytest.mark.parametrize("variant", ["ring", "ring-modulo"])
def test_a_write_is_visible_to_the_next_read_of_the_ring(nodes: Any, variant: str) -> None:
    users = ways.open("decentralized", variant)
    users.create("Ada", user_id="ada")
    loaded, cached = users.get("ada"), users.get("ada")
    users.update("ada", "Ada King")

    assert (loaded.served_by, cached.served_by[:5]) == ("primary", "ring-")
    assert cached.age_seconds is not None
    assert users.get("ada").name == "Ada King"


def test_the_event_of_a_write_invalidates_the_ring_of_the_other_variant(nodes: Any) -> None:
    ring, modulo = ways.open("decentralized", "ring"), ways.open("decentralized", "ring-modulo")
    ring.create("Ada", user_id="ada")
    modulo.get("ada")
    ring.update("ada", "Ada King")
    assert modulo.get("ada").name == "Ada"

    deliver(recorded(OutboxEvent)[-1], consumer="lab_ring")
    assert modulo.get("ada").name == "Ada King"


def test_the_copy_is_behind_until_the_event_is_applied(settle: Settle) -> None:
    users = ways.open("decentralized", "copy")
    users.create("Ada", user_id="ada")
    with pytest.raises(UserNotFound) as caught:
        users.get("ada")
    assert caught.value.served_by == "projection"
    settle(users)
    users.update("ada", "Ada King")

    assert users.get("ada").version == 1
    settle(users)
    assert users.get("ada").version == 2


def test_the_copy_ignores_a_late_or_repeated_event() -> None:
    users = ways.open("decentralized", "copy")
    users.create("Ada", user_id="ada")
    users.update("ada", "Ada King")
    created, updated = recorded(OutboxEvent)
    for envelope in (updated, updated, created):
        deliver(envelope, consumer="lab_copy")

    assert users.get("ada").name == "Ada King"
    assert UserCopy.objects.count() == 1


@pytest.mark.parametrize("way", ["decentralized", "event-driven"])
def test_a_write_that_fails_leaves_neither_row_nor_event(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseError("the outbox can't be written")

    users = ways.open(way)
    monkeypatch.setattr(f"lab.{way.replace('-', '_')}.record", fail)
    with pytest.raises(DatabaseError, match="the outbox"):
        users.create("Ada", user_id="ada")

    assert list(users.list()) == []
    assert recorded(OutboxEvent) == []


def test_stored_events_can_be_neither_changed_nor_deleted() -> None:
    ways.open("event-driven").create("Ada", user_id="ada")
    for change in (lambda: UserEvent.objects.update(version=2), UserEvent.objects.all().delete):
        with pytest.raises(DatabaseError, match="permission denied"):
            change()


def test_a_snapshot_saves_a_reader_the_events_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_driven, "SNAPSHOT_EVERY", 3)
    users = ways.open("event-driven", "snapshots")
    users.create("0", user_id="ada")
    for number in range(1, 4):
        users.update("ada", str(number))
    UserSnapshot.objects.filter(id="ada").update(name="two")
    loaded: list[int] = []
    load = event_store.load
    monkeypatch.setattr(
        event_driven, "load", lambda after: loaded.extend(after.values()) or load(after)
    )

    assert UserSnapshot.objects.get(id="ada").version == 3
    assert (users.get("ada").version, users.get("ada").name) == (4, "3")
    assert loaded == [3, 3]
    assert ways.open("event-driven", "events").get("ada").name == "3"


def test_the_projection_is_behind_the_events_until_they_are_applied(settle: Settle) -> None:
    users = ways.open("event-driven", "projection")
    users.create("Ada", user_id="ada")
    settle(users)
    users.update("ada", "Ada King")

    assert users.get("ada").name == "Ada"
    assert ways.open("event-driven", "events").get("ada").name == "Ada King"
    settle(users)
    assert users.get("ada").name == "Ada King"
