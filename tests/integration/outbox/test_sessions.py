"""What the relay's and the readers' sessions promise beside others on the same server."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction

from outbox.inbox import Inbox
from outbox.parking import Parking
from outbox.relay import own_connection
from tests.waiting import eventually

from .conftest import consumer_of


def test_the_relay_commits_durably_whatever_the_service_has_chosen_for_itself(shop, monkeypatch):
    options = connections[shop.alias].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", "-c synchronous_commit=off")
    with own_connection(shop) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


@pytest.fixture
def opened(shop: Any) -> Inbox:
    inbox = Inbox(shop, consumer="probe", producer=shop.label)
    inbox.open([0])
    return inbox


def test_a_position_is_read_again_only_when_whoever_moves_it_is_done(shop, opened, elsewhere):
    # A commit whose answer was lost may still be on its way: a plain read would say 0-0.
    with elsewhere.cursor() as cursor:
        cursor.execute(f"UPDATE {shop.position._meta.db_table} SET entry = '5-1'")  # noqa: S608
    found: list[dict[int, str]] = []

    reading = threading.Thread(target=_closing, args=[lambda: found.append(opened.committed())])
    reading.start()
    eventually(lambda: found or _is_waiting(shop), within_seconds=10, what="a reader that waits")
    elsewhere.commit()
    reading.join(10)
    assert found == [{0: "5-1"}]


def test_an_event_that_is_being_parked_is_not_left_behind_by_a_replay(
    shop, relay, record, reader_of, monkeypatch
):
    applied: list[int] = []
    mended = threading.Event()

    def handle(envelope: Any) -> None:
        if not mended.is_set():
            raise ValueError("not yet")
        applied.append(envelope.sequence)

    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    record("a", 1)
    relay.drain()
    reader.step()
    record("a", 2)
    relay.drain()
    mended.set()

    # The reader has seen that the key is parked, and hasn't yet put the second event behind.
    deciding, may_park = threading.Event(), threading.Event()
    park = reader._parking.park

    def park_late(*args: Any, **options: Any) -> None:
        deciding.set()
        assert may_park.wait(10)
        park(*args, **options)

    monkeypatch.setattr(reader._parking, "park", park_late)
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()

    def replay() -> None:
        found.replay(consumer_of(shop, handle), partition=sequence.partition, key="a")

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(_closing, reader.step)
        assert deciding.wait(10)
        replaying = pool.submit(_closing, replay)
        eventually(
            lambda: replaying.done() or _is_waiting(shop), within_seconds=10, what="the replay"
        )
        may_park.set()
        reading.result(10)
        replaying.result(10)
    assert applied == [1, 2]
    assert list(found.sequences()) == []


def _closing(action: Callable[[], Any]) -> None:
    try:
        action()
    finally:
        connections.close_all()


def _is_waiting(shop: Any) -> bool:
    with transaction.atomic(using=shop.alias), connections[shop.alias].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])
