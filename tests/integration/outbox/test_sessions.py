"""Locks, plans and durability of the relay's and the readers' database sessions."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections, transaction
from django.utils import timezone

from outbox import drivers
from outbox.consuming.inbox import MOVES_PER_ID, Inbox
from outbox.consuming.parking import Parking
from outbox.consuming.reader import SESSION
from outbox.publishing.relay import own_connection
from tests.integration.outbox.conftest import consumer_of, event
from tests.support.databases import execute_as_owner
from tests.support.waiting import eventually

EXPLAINED = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


def test_relays_and_readers_use_read_committed_at_any_default(shop, opened, reader_of, monkeypatch):
    options = connections[shop.alias].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", "-c default_transaction_isolation=serializable")
    connections[shop.alias].close()
    assert "outbox.E008" in [found.id for found in run_checks(databases=[shop.alias])]
    reader_of(lambda _: None)._open()
    with own_connection(shop) as relaying:
        for connection in (relaying, connections[shop.alias]):
            with connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("read committed",)
    connections[shop.alias].close()


def test_the_relay_commits_durably_when_the_service_does_not(shop, monkeypatch):
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


def test_committed_positions_wait_for_a_running_move(shop, opened, elsewhere):
    # A commit can still run after its reply is lost: a read without a lock would return 0-0.
    with elsewhere.cursor() as cursor:
        cursor.execute(f"UPDATE {shop.position._meta.db_table} SET entry = '5-1'")  # noqa: S608
    found: list[dict[int, str]] = []

    reading = threading.Thread(target=_closing, args=[lambda: found.append(opened.committed())])
    reading.start()
    eventually(lambda: found or _is_waiting(shop), within_seconds=10, what="the reader waits")
    elsewhere.commit()
    reading.join(10)
    assert found == [{0: "5-1"}]


def test_a_move_locks_the_positions_in_the_order_of_partitions(shop, elsewhere):
    # Every other session uses this order, for example a rebuild that pauses the consumer.
    inbox = Inbox(shop, consumer="probe", producer=shop.label)
    inbox.open([0, 1])
    table = shop.position._meta.db_table

    def move() -> None:
        with transaction.atomic(using=shop.alias):
            inbox.move({1: ("0-0", "5-1"), 0: ("0-0", "5-1")})

    with elsewhere.cursor() as cursor:
        cursor.execute(f"SELECT FROM {table} WHERE partition = 0 FOR UPDATE")
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(_closing, move)
            eventually(lambda: _is_waiting(shop), within_seconds=10, what="the move waits")
            cursor.execute(f"SELECT FROM {table} WHERE partition = 1 FOR UPDATE NOWAIT")
            elsewhere.commit()
            moving.result(10)
    assert inbox.committed() == {0: "5-1", 1: "5-1"}


def test_positions_are_created_once_by_concurrent_readers(shop):
    inbox = Inbox(shop, consumer="probe", producer=shop.label)
    made, may_commit = threading.Event(), threading.Event()

    def open_first() -> None:
        with transaction.atomic(using=shop.alias):
            inbox.open([0, 1])
            made.set()
            assert may_commit.wait(10)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_closing, open_first)
        assert made.wait(10)
        second = pool.submit(_closing, lambda: inbox.open([0, 1, 2]))
        eventually(
            lambda: second.done() or _is_waiting(shop), within_seconds=10, what="the second waits"
        )
        may_commit.set()
        first.result(10)
        second.result(10)
    rows = shop.position._default_manager.order_by("partition")
    assert list(rows.values_list("partition", flat=True)) == [0, 1, 2]


def test_an_open_transaction_makes_no_move_slower(shop, opened, elsewhere):
    connection = connections[shop.alias]
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    with transaction.atomic(using=shop.alias):
        opened.move({0: ("0-0", "0-1")})
    moving = opened._move._ready[connection.connection].partition("; ")[0]

    def blocks_of_move(number: int) -> int:
        """Move the position; returns the number of buffers that the move reads."""
        moved = {"partitions": [0], "expected": [f"0-{number}"], "next": [f"0-{number + 1}"]}
        names = {"consumer": "probe", "producer": shop.label}
        with connection.cursor() as cursor:
            drivers.execute(cursor, EXPLAINED + moving, moved | names)
            [([found],)] = cursor.fetchall()
        return int(found["Plan"]["Shared Hit Blocks"])

    for first in (1, 1201):  # the second round reuses the space that the first round frees
        execute_as_owner(shop.alias, f"VACUUM (ANALYZE) {shop.position._meta.db_table}")
        with elsewhere.cursor() as cursor:  # from now on no row version may be removed
            cursor.execute("SELECT pg_current_xact_id()")
        blocks = [blocks_of_move(number) for number in range(first, first + 1200)]
        assert median(blocks[-200:]) < median(blocks[:200]) + 8
        elsewhere.rollback()
    assert opened.stored() == {0: "0-2401"}


def test_a_move_is_planned_once(shop, opened):
    connection = connections[shop.alias]
    connection.close()  # a new session, without plans
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    for number in range(8):  # by default, PostgreSQL makes a plan for each of the first five runs
        with transaction.atomic(using=shop.alias):
            opened.move({0: (f"0-{number}", f"0-{number + 1}")})
    with connection.cursor() as cursor:
        cursor.execute("SELECT custom_plans, generic_plans FROM pg_prepared_statements")
        assert cursor.fetchall() == [(0, 8), (0, 8)]


def park(shop: Any, first: int, last: int) -> None:
    """Park an event of each of these keys, in the partitions 0 and 1."""
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.parked._meta.db_table} (consumer, producer, partition, key, entry, "  # noqa: S608
            "type, body, error, traceback, attempts, parked_at) SELECT 'probe', %s, n %% 2, "
            "n::text, '5-' || n, '', '', '', '', 0, now() FROM generate_series(%s::int, %s::int) n",
            [shop.label, first, last],
        )


def test_a_move_reads_only_the_parked_keys_of_its_batch(shop, opened):
    connection = connections[shop.alias]
    connection.close()  # a new session, without plans
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    keys = {(0, "6"), (0, "7"), (0, 'it\'s "{\\}",'), (1, "9")}
    parked = [set(), {"6"}, {"6", "9"}]
    for number, (first, last) in enumerate([(1, 0), (1, 6), (7, 20_000)]):
        park(shop, first, last)  # the plans are made while few keys are parked
        with transaction.atomic(using=shop.alias):
            found = opened.move({0: (f"0-{number}", f"0-{number + 1}")}, keys=keys)
        assert found == parked[number]

    finding = opened._find_parked._ready[connection.connection]
    given = {"partitions": [0] * 50, "keys": [str(n) for n in range(50)]}
    names = {"consumer": "probe", "producer": shop.label}
    with connection.cursor() as cursor:
        drivers.execute(cursor, EXPLAINED + finding, given | names)
        [([found],)] = cursor.fetchall()
    assert found["Plan"]["Shared Hit Blocks"] < 50 * 8


def test_a_superseding_event_reads_only_the_rows_of_its_key(shop):
    connection = connections[shop.alias]
    park(shop, 1, 20_000)
    shop.parked._default_manager.update(dropped_at=timezone.now())
    park(shop, 20_001, 40_000)
    # Autovacuum does this within a minute of such an increase. With the statistics of an empty
    # table, all indexes seem to cost the same, and the planner takes the one that was built first.
    execute_as_owner(shop.alias, f"ANALYZE {shop.parked._meta.db_table}")
    blocks: list[int] = []

    def explain(execute: Any, sql: str, values: Any, *context: Any) -> Any:
        if sql.startswith("SELECT"):
            with connection.cursor() as cursor:
                drivers.execute(cursor, EXPLAINED + sql, values)
                [([found],)] = cursor.fetchall()
            blocks.append(found["Plan"]["Shared Hit Blocks"])
        return execute(sql, values, *context)

    parking = Parking(shop, consumer="probe", producer=shop.label)
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    with transaction.atomic(using=shop.alias), connection.execute_wrapper(explain):
        for key in ("12", "20012"):  # a dropped one, and one that is parked
            parking.delete_superseded(event(shop, key), partition=0)
    assert len(blocks) == 6
    assert max(blocks) < 16


def test_few_row_versions_have_the_same_id(shop, opened):
    # If a unique key stays the same, PostgreSQL checks the key against every version of the row.
    ids = []
    for number in range(10 * MOVES_PER_ID):
        with transaction.atomic(using=shop.alias):
            opened.move({0: (f"0-{number}", f"0-{number + 1}")})
        ids.append(shop.position._default_manager.get().pk)
    assert ids == sorted(ids)
    assert 5 <= len(set(ids)) <= 20


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_a_retry_or_drop_includes_an_event_that_is_being_parked(
    shop, relay, record, reader_of, monkeypatch, action
):
    applied: list[int] = []
    fixed = threading.Event()

    def handle(envelope: Any) -> None:
        if not fixed.is_set():
            raise ValueError("not yet")
        applied.append(envelope.sequence)

    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    record("a", 1)
    relay.drain()
    reader.step()
    record("a", 2)
    relay.drain()
    fixed.set()

    # The reader has seen that the key is parked and hasn't yet parked the second event.
    deciding, may_park = threading.Event(), threading.Event()
    park = reader._parking.park

    def park_late(*args: Any, **options: Any) -> None:
        deciding.set()
        assert may_park.wait(10)
        park(*args, **options)

    monkeypatch.setattr(reader._parking, "park", park_late)
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()

    def act() -> None:
        consumer = consumer_of(shop, handle)
        chosen: dict[str, Any] = {"partition": sequence.partition, "key": "a"}
        if action == "retry":
            found.retry(consumer, **chosen)
        else:
            found.drop(consumer, **chosen, upto=sys.maxsize, reason="a test", by="ada")

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(_closing, reader.step)
        assert deciding.wait(10)
        acting = pool.submit(_closing, act)
        eventually(
            lambda: acting.done() or _is_waiting(shop),
            within_seconds=10,
            what=f"the {action} waits",
        )
        may_park.set()
        reading.result(10)
        acting.result(10)
    assert applied == ([1, 2] if action == "retry" else [])
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
