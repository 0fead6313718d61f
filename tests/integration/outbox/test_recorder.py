from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections, transaction
from msgspec.structs import replace

from outbox import recorder, trace_context
from outbox.errors import DatabaseDiffers, RecordedOutsideTransaction
from outbox.testing import recorded
from tests.integration.outbox.conftest import event


def test_an_event_needs_a_transaction(shop):
    with pytest.raises(RecordedOutsideTransaction, match=shop.alias):
        recorder.record(event(shop), into=shop.event)


def test_an_event_of_an_aborted_transaction_is_not_stored(shop):
    with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
        recorder.record(event(shop), into=shop.event)
        raise ZeroDivisionError
    assert recorded(shop.event) == []


def test_an_event_is_stored_as_recorded(shop, record):
    envelope = record("a", 7)
    assert recorded(shop.event) == [envelope]


@pytest.mark.parametrize("own", [None, f"00-{'c' * 32}-{'d' * 16}-01"])
def test_an_event_without_a_trace_belongs_to_the_current_one(shop, own: str | None):
    current = f"00-{'a' * 32}-{'b' * 16}-01"
    with trace_context.continued(current), transaction.atomic(using=shop.alias):
        recorder.record(replace(event(shop), traceparent=own), into=shop.event)
    [envelope] = recorded(shop.event)
    assert envelope.traceparent == (own or current)


def test_one_transaction_sends_one_nudge(shop, streams):
    with transaction.atomic(using=shop.alias):
        for sequence in range(1, 4):
            recorder.record(event(shop, "a", sequence), into=shop.event)
        hooks = len(transaction.get_connection(shop.alias).run_on_commit)
    assert hooks == 1
    assert streams.wait_nudge(shop.label, timeout_seconds=1)
    assert not streams.wait_nudge(shop.label, timeout_seconds=0.01)


def test_a_rolled_back_savepoint_keeps_the_nudge(shop, streams):
    with transaction.atomic(using=shop.alias):
        with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
            recorder.record(event(shop, "a", 1), into=shop.event)
            raise ZeroDivisionError
        recorder.record(event(shop, "a", 2), into=shop.event)
    assert streams.wait_nudge(shop.label, timeout_seconds=1)


def test_a_request_keeps_the_transaction_id_of_its_last_write(shop, record):
    record("a", 1)
    row = shop.event._default_manager.get()
    assert recorder.last_write.get()[shop.label] == row.xid


def insert_by_own_statement(shop: Any) -> None:
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {shop.event._meta.db_table} (partition, body) VALUES (%s, %s)",  # noqa: S608
            recorder.row_of(event(shop)),
        )
    recorder.nudge_on_commit(1, into=shop.event)


def insert_by_record(shop: Any) -> None:
    recorder.record(event(shop), into=shop.event)


@pytest.mark.parametrize("write", [insert_by_record, insert_by_own_statement])
@pytest.mark.parametrize("partitions", [8, 32])
def test_a_writer_with_another_number_of_partitions_is_refused(
    shop, settings, write: Callable[[Any], None], partitions: int
):
    shop.check_partitions(16, shop.connection)
    settings.OUTBOX_PARTITIONS = partitions
    for _ in range(2):
        refused = pytest.raises(DatabaseDiffers, match=f"16 partitions.*is {partitions}")
        with refused, transaction.atomic(using=shop.alias):
            write(shop)
    assert recorded(shop.event) == []


def test_the_first_writer_stores_the_number_of_partitions(shop, record, settings, monkeypatch):
    monkeypatch.setattr(recorder, "_checked", set())
    settings.OUTBOX_PARTITIONS = 32
    record("a", 1)
    assert shop.state._default_manager.get(name="partitions").value == "32"


def test_a_number_of_partitions_that_was_rolled_back_is_checked_again(shop, record, monkeypatch):
    monkeypatch.setattr(recorder, "_checked", set())
    with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
        insert_by_record(shop)
        raise ZeroDivisionError
    shop.check_partitions(32, shop.connection)  # another process was first
    with pytest.raises(DatabaseDiffers):
        record("a", 1)
