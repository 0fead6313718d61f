"""Interleaved transactions whose rows a cursor by row id or by xid would skip."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections, transaction

from outbox import drivers
from outbox.publishing.relay import own_connection
from outbox.publishing.ticks import Ticks
from tests.integration.outbox.conftest import event
from tests.support.databases import execute_as_owner


@pytest.fixture
def ticks(shop) -> Iterator[Ticks]:
    with own_connection(shop) as connection:
        ticks = Ticks(shop, connection)
        ticks.first()
        yield ticks


def batches(ticks: Ticks) -> list[list[int]]:
    """The row ids of every tick, in the order of the ticks."""
    found, tick_id = [], ticks.first()
    while tick := ticks.after(tick_id):
        with ticks.rows(tick, after=0) as chunks:
            found.append([row for chunk in chunks for row, _, _ in chunk])
        tick_id = tick.id
    return found


def insert(connection, shop, key: str = "a") -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.event._meta.db_table} (partition, body) "  # noqa: S608
            "VALUES (0, %s) RETURNING id",
            [event(shop, key).encode()],
        )
        return cursor.fetchone()[0]


def test_no_tick_is_made_without_rows(ticks):
    assert ticks.make() is None


def test_rows_from_before_the_first_relay_are_in_the_first_batch(shop, record, ticks):
    record("a", 1)
    assert ticks.make()
    assert [len(batch) for batch in batches(ticks)] == [1]
    assert ticks.make() is None


def test_a_row_that_commits_late_is_not_skipped(shop, ticks, elsewhere):
    early = insert(elsewhere, shop)
    late = insert(connections[shop.alias], shop)
    ticks.make()
    elsewhere.commit()
    ticks.make()
    assert batches(ticks) == [[late], [early]]


def test_an_open_transaction_holds_back_only_its_own_rows(shop, ticks, elsewhere):
    held = insert(elsewhere, shop)
    seen = []
    for _ in range(3):
        seen.append([insert(connections[shop.alias], shop)])
        assert ticks.make()
    assert batches(ticks) == seen
    elsewhere.commit()
    ticks.make()
    assert batches(ticks) == [*seen, [held]]


def test_an_aggregate_keeps_its_order_when_its_first_writer_has_the_later_xid(
    shop, ticks, elsewhere
):
    # The other transaction gets its xid first and writes the aggregate last. In the order of xids,
    # the relay would publish the event of the other transaction first.
    with elsewhere.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
    first = insert(connections[shop.alias], shop)
    second = insert(elsewhere, shop)
    elsewhere.commit()
    ticks.make()
    assert batches(ticks) == [[first, second]]


def test_an_aborted_row_is_in_no_batch(shop, ticks, elsewhere):
    insert(elsewhere, shop)
    kept = insert(connections[shop.alias], shop)
    ticks.make()
    elsewhere.rollback()
    assert ticks.make() is None
    assert batches(ticks) == [[kept]]


def test_savepoints_do_not_change_a_batch(shop, ticks):
    with transaction.atomic(using=shop.alias):
        kept = insert(connections[shop.alias], shop)
        with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
            insert(connections[shop.alias], shop)
            raise ZeroDivisionError
        with transaction.atomic(using=shop.alias):
            inner = insert(connections[shop.alias], shop)
    ticks.make()
    assert batches(ticks) == [[kept, inner]]


def test_two_relays_make_one_chain_of_ticks(shop, record, ticks, elsewhere):
    record("a", 1)
    table = shop.tick._meta.db_table
    with elsewhere.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} SELECT 5, 0, pg_current_snapshot()")
        elsewhere.commit()
    assert ticks.make() is None  # the other tick already sees the row
    record("a", 2)
    made = ticks.make()
    assert made is not None
    assert ticks.after(5) == made


def test_two_ticks_never_follow_the_same_tick(shop, ticks, elsewhere):
    from django.db import IntegrityError

    table = shop.tick._meta.db_table
    with elsewhere.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} SELECT 5, 0, pg_current_snapshot()")
        with pytest.raises(IntegrityError):
            cursor.execute(f"INSERT INTO {table} SELECT 6, 0, pg_current_snapshot()")


def test_tick_ids_increase_when_the_clock_goes_back(shop, record):
    with own_connection(shop) as connection:
        clock = iter([1000, 400, 1000])
        ticks = Ticks(shop, connection, clock_ms=lambda: next(clock))
        ticks.first()
        made = []
        for sequence in range(3):
            record("a", sequence + 1)
            made.append(ticks.make().id)
    assert made == [1000, 1001, 1002]


def test_a_batch_is_resumed_after_any_row(shop, record, ticks, monkeypatch):
    from outbox.publishing import ticks as module

    monkeypatch.setattr(module, "CHUNK_ROWS", 2)
    with transaction.atomic(using=shop.alias):
        ids = [insert(connections[shop.alias], shop) for _ in range(5)]
    tick = ticks.make()
    with ticks.rows(tick, after=ids[1]) as chunks:
        assert [[row for row, _, _ in chunk] for chunk in chunks] == [ids[2:4], ids[4:]]


PARAMETERS = {"clock": 1, "few": 500, "chunk": 1000}


def making(ticks: Ticks) -> str:
    """The prepared statement that makes a tick."""
    return ticks._make._ready[ticks._connection.connection]


def test_the_tick_statement_uses_the_index(shop, ticks):
    # A relay runs this statement on every nudge, so the statement must not read the whole table.
    ticks.make()
    with ticks._connection.cursor() as cursor:
        drivers.execute(cursor, f"EXPLAIN {making(ticks)}", PARAMETERS)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert f"Seq Scan on {shop.event._meta.db_table}" not in plan
    assert f"{shop.label}_outbox_xid" in plan


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_small_batch_reads_only_its_own_rows(shop, ticks, elsewhere, analyzed):
    table = shop.event._meta.db_table
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (partition, body) "  # noqa: S608
            "SELECT 0, 'sent before' FROM generate_series(1, 20000)"
        )
    if analyzed:
        execute_as_owner(shop.alias, f"ANALYZE {table}")
    ticks.make()
    late = insert(elsewhere, shop)
    insert(connections[shop.alias], shop)
    ticks.make()
    elsewhere.commit()
    insert(connections[shop.alias], shop)
    tick = ticks.make()

    with ticks.rows(tick, after=0) as chunks:
        assert late in [row for row, _, _ in next(chunks)]
    by_cursor = ticks._rows_sql.partition("FOR ")[2].partition("; FETCH")[0]
    named = {"previous": tick.previous, "snapshot": tick.snapshot, "after": 0}
    insert(connections[shop.alias], shop)
    for statement, params in (
        (by_cursor, named),
        (making(ticks), PARAMETERS),
    ):
        with ticks._connection.cursor() as cursor:
            drivers.execute(cursor, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", params)
            [(found,)] = cursor.fetchall()
        assert max(rows_touched(found[0]["Plan"])) < 1000


def test_a_tick_is_made_without_a_read_of_a_long_backlog(shop, ticks):
    insert(connections[shop.alias], shop)
    ticks.make()
    transactions = 200
    with connections[shop.alias].cursor() as cursor:
        for _ in range(transactions):
            cursor.execute(
                f"INSERT INTO {shop.event._meta.db_table} (partition, body) "  # noqa: S608
                "VALUES (0, 'waits')"
            )
    # Transactions of concurrent tests count too, so both limits are far from `transactions`.
    for few, are_read in ((1_000_000, True), (transactions // 2, False)):
        with ticks._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {making(ticks)}"
            drivers.execute(cursor, explained, PARAMETERS | {"few": few})
            [(found,)] = cursor.fetchall()
            cursor.execute("ROLLBACK")
        assert (max(rows_touched(found[0]["Plan"])) >= transactions) is are_read


def rows_touched(plan: dict[str, Any]) -> Iterator[float]:
    """For each node of a plan, the number of rows that the node returned or dropped."""
    dropped = sum(value for name, value in plan.items() if name.startswith("Rows Removed"))
    yield (plan["Actual Rows"] + dropped) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from rows_touched(part)
