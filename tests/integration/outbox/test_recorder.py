from contextlib import suppress

import pytest
from django.db import transaction

from outbox import recorder
from outbox.errors import RecordedOutsideTransaction
from outbox.testing import published
from tests.integration.outbox.conftest import event


def test_an_event_needs_a_transaction(shop):
    with pytest.raises(RecordedOutsideTransaction, match=shop.alias):
        recorder.record(event(shop), into=shop.event)


def test_an_event_of_an_aborted_transaction_is_not_stored(shop):
    with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
        recorder.record(event(shop), into=shop.event)
        raise ZeroDivisionError
    assert published(shop.event) == []


def test_an_event_is_stored_as_recorded(shop, record):
    recorded = record("a", 7)
    assert published(shop.event) == [recorded]


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
