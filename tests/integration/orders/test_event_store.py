"""The event store appends only at the expected version and never changes a stored event."""

import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections, router, transaction
from uuid_utils.compat import uuid7

from orders import event_store
from orders.domain.codec import BrokenStream
from orders.domain.errors import ConcurrentAppend
from orders.domain.events import Event, OrderCancelled, OrderConfirmed, OrderExpired, OrderPlaced
from orders.domain.metadata import Metadata
from orders.models import OutboxEvent, StoredEvent
from placement.owner import as_owner
from tests.integration.orders.conftest import ADA, LINES, NOON, Threads, waits_for_a_lock
from tests.support.databases import execute_as_owner
from tests.support.waiting import eventually

ALIAS = router.db_for_write(StoredEvent)


@pytest.fixture
def stream() -> UUID:
    return uuid7()


def placed(stream: UUID) -> OrderPlaced:
    return OrderPlaced(order_id=stream, user_id=ADA, lines=LINES, at=NOON)


def append(stream: UUID, expected_version: int, *events: Event, **metadata: str) -> int:
    return event_store.append(
        stream,
        expected_version=expected_version,
        events=events,
        metadata=Metadata(**metadata),
        announcing=[(3, type(event).__name__) for event in events],
    )


def announced() -> list[str]:
    """The bodies of the outbox rows by id: the relay publishes them in this order."""
    return list(OutboxEvent.objects.order_by("id").values_list("body", flat=True))


def versions(stream: UUID) -> list[int]:
    return [row.version for row in event_store.stored(stream)]


def test_appended_events_are_loaded_in_order(stream: UUID) -> None:
    history = [placed(stream), OrderConfirmed(order_id=stream, at=NOON)]
    append(stream, 0, *history)
    append(stream, 2, OrderCancelled(order_id=stream, at=NOON))
    assert list(event_store.load(stream, up_to_version=2)) == history
    assert len(list(event_store.load(stream))) == 3
    assert versions(stream) == [1, 2, 3]
    assert announced() == ["OrderPlaced", "OrderConfirmed", "OrderCancelled"]
    assert set(OutboxEvent.objects.values_list("partition", flat=True)) == {3}


def test_a_stream_can_be_loaded_up_to_a_time(stream: UUID) -> None:
    later = NOON + timedelta(hours=1)
    append(stream, 0, placed(stream), OrderConfirmed(order_id=stream, at=later))
    for at, number in ((NOON - timedelta(seconds=1), 0), (NOON, 1), (later, 2)):
        assert len(list(event_store.load(stream, until=at))) == number


def test_an_error_names_the_missing_version(stream: UUID) -> None:
    append(stream, 0, placed(stream), OrderConfirmed(order_id=stream, at=NOON))
    append(stream, 2, OrderCancelled(order_id=stream, at=NOON))
    execute_as_owner(
        ALIAS,
        "GRANT DELETE ON orders_storedevent TO CURRENT_USER;"
        "DELETE FROM orders_storedevent WHERE version = 2;"
        "REVOKE DELETE ON orders_storedevent FROM CURRENT_USER",
    )
    with pytest.raises(BrokenStream, match="version 2 is missing, 3 follows"):
        list(event_store.load(stream))
    assert list(event_store.load(stream, up_to_version=1)) == [placed(stream)]


def test_an_unknown_stream_has_no_events(stream: UUID) -> None:
    assert list(event_store.load(stream)) == []


def test_a_row_stores_its_type_origin_and_transaction(stream: UUID) -> None:
    with transaction.atomic(using=ALIAS):
        returned = append(stream, 0, placed(stream), actor="ada", traceparent="00-1")
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text")
            xid = int(cursor.fetchone()[0])
    row = StoredEvent.objects.get(stream=stream)
    assert returned == OutboxEvent.objects.get().xid == xid
    assert (row.type, row.schema_version, row.xid) == ("OrderPlaced", 1, xid)
    assert row.metadata == {"actor": "ada", "traceparent": "00-1"}
    assert row.recorded_at.tzinfo is not None


def test_an_append_at_another_version_than_the_last_is_refused(stream: UUID) -> None:
    with pytest.raises(ConcurrentAppend):
        append(stream, 1, OrderConfirmed(order_id=stream, at=NOON))
    assert versions(stream) == []
    append(stream, 0, placed(stream), OrderConfirmed(order_id=stream, at=NOON))
    for expected in (0, 1, 3, 7):
        with pytest.raises(ConcurrentAppend) as refused:
            append(stream, expected, OrderCancelled(order_id=stream, at=NOON))
        assert (refused.value.order_id, refused.value.expected) == (stream, expected)
        assert (refused.value.found, refused.value.transient) == (2, True)
        assert versions(stream) == [1, 2]
        assert announced() == ["OrderPlaced", "OrderConfirmed"]


def test_a_refused_append_leaves_the_transaction_usable(stream: UUID) -> None:
    append(stream, 0, placed(stream))
    with transaction.atomic(using=ALIAS):
        with pytest.raises(ConcurrentAppend):
            append(stream, 0, placed(stream))
        append(stream, 1, OrderConfirmed(order_id=stream, at=NOON))
    assert versions(stream) == [1, 2]


def test_only_one_concurrent_append_succeeds(stream: UUID, threads: Threads) -> None:
    append(stream, 0, placed(stream))
    cancelled = OrderCancelled(order_id=stream, at=NOON)
    results = threads.together(*[lambda: append(stream, 1, cancelled)] * 12)
    refusals = [result for result in results if isinstance(result, ConcurrentAppend)]
    assert (len(results), len(refusals)) == (12, 11)
    assert {refusal.found for refusal in refusals} == {2}
    assert versions(stream) == [1, 2]
    assert announced() == ["OrderPlaced", "OrderCancelled"]


def test_a_refused_append_of_several_events_stores_none(stream: UUID, threads: Threads) -> None:
    append(stream, 0, placed(stream))
    won = threading.Event()
    commit = threading.Event()

    def win() -> None:
        with transaction.atomic(using=ALIAS):
            append(stream, 1, OrderConfirmed(order_id=stream, at=NOON))
            won.set()
            assert commit.wait(timeout=10)

    def lose() -> None:
        two = (OrderExpired(order_id=stream, at=NOON), OrderCancelled(order_id=stream, at=NOON))
        with transaction.atomic(using=ALIAS), pytest.raises(ConcurrentAppend) as refused:
            append(stream, 1, *two)
        assert refused.value.found == 2

    winner = threads.start(win)
    assert won.wait(timeout=10)
    loser = threads.start(lose)
    eventually(waits_for_a_lock, within_seconds=10, what="the second append waits for the first")
    commit.set()
    winner.result(timeout=10)
    loser.result(timeout=10)
    assert [row.type for row in event_store.stored(stream)] == ["OrderPlaced", "OrderConfirmed"]
    assert announced() == ["OrderPlaced", "OrderConfirmed"]


def test_an_append_succeeds_if_another_rolls_back(stream: UUID, threads: Threads) -> None:
    appended = threading.Event()
    roll_back = threading.Event()

    def append_and_roll_back() -> None:
        with transaction.atomic(using=ALIAS):
            append(stream, 0, placed(stream))
            appended.set()
            assert roll_back.wait(timeout=10)
            transaction.set_rollback(True, using=ALIAS)

    rival = threads.start(append_and_roll_back)
    assert appended.wait(timeout=10)
    appending = threads.start(append, stream, 0, placed(stream))
    eventually(waits_for_a_lock, within_seconds=10, what="the append waits for the other")
    roll_back.set()
    rival.result(timeout=10)
    appending.result(timeout=10)
    assert versions(stream) == [1]
    assert announced() == ["OrderPlaced"]


def test_the_service_role_cannot_change_stored_events(stream: UUID) -> None:
    append(stream, 0, placed(stream))
    rows = StoredEvent.objects.filter(stream=stream)
    for change in (lambda: rows.update(version=9), rows.delete, StoredEvent.objects.get().save):
        with pytest.raises(DatabaseError, match="permission denied"):
            change()
        assert versions(stream) == [1]


@pytest.mark.parametrize("right", ["UPDATE", "UPDATE (data)", "DELETE", "TRUNCATE", "TRIGGER"])
def test_the_system_check_reports_each_right_to_change_events(right: str) -> None:
    assert event_store.check_append_only(None, [ALIAS]) == []
    execute_as_owner(ALIAS, f"GRANT {right} ON orders_storedevent TO orders")
    try:
        (error,) = event_store.check_append_only(None, [ALIAS])
    finally:
        execute_as_owner(ALIAS, f"REVOKE {right} ON orders_storedevent FROM orders")
    assert error.id == "orders.E001"
    assert error.msg.endswith(f": {right.split()[0]}.")


def test_the_system_check_reports_the_owner_who_could_grant_such_rights() -> None:
    with as_owner(ALIAS):
        (error,) = event_store.check_append_only(None, [ALIAS])
    assert "owns the table, it owns the schema" in error.msg


def test_the_system_check_is_registered_and_reads_only_chosen_databases() -> None:
    call_command("check", databases=[ALIAS])
    assert event_store.check_append_only(None, None) == []
