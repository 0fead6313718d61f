"""Many events in one statement, and events of asynchronous code."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory
from django.test.utils import CaptureQueriesContext

from outbox import recorder
from outbox.envelope import Envelope
from outbox.errors import MalformedEnvelope, RecordedOutsideTransaction
from outbox.testing import assert_nothing_recorded, recorded
from tests.integration.outbox.conftest import event


@pytest.fixture
def record_many(shop: Any) -> Callable[..., list[int]]:
    def commit(*envelopes: Envelope) -> list[int]:
        with transaction.atomic(using=shop.alias):
            return recorder.record_many(envelopes, into=shop.event)

    return commit


def test_the_ids_of_many_events_increase_in_the_order_of_the_events(shop, record_many, monkeypatch):
    monkeypatch.setattr(recorder, "CHUNK_ROWS", 1000)
    # Keys in no order, so neither the partitions nor the bodies are in the order of the events.
    events = [
        event(shop, f"key-{n * 7919 % 50}", n, data={"text": f"{-n}\n,'\"\\"}) for n in range(2500)
    ]
    ids = record_many(*events)
    assert ids == sorted(ids)
    stored = shop.rows(shop.event).in_bulk(ids)
    assert [Envelope.decode(stored[id_].body) for id_ in ids] == events
    assert recorded(shop.event) == events


def test_a_statement_has_a_limited_number_of_rows_and_characters(shop, record_many, monkeypatch):
    monkeypatch.setattr(recorder, "CHUNK_ROWS", 3)
    size = len(event(shop).encode())
    monkeypatch.setattr(recorder, "CHUNK_CHARACTERS", 3 * size + 100)
    large = {"text": "x" * 4 * size}
    with CaptureQueriesContext(connections[shop.alias]) as queries:
        record_many(*(event(shop, data=large if n == 4 else {}) for n in range(9)))
    inserts = [query["sql"] for query in queries if "WITH ORDINALITY" in query["sql"]]
    assert [sql.count("specversion") for sql in inserts] == [3, 1, 1, 3, 1]


def test_many_events_send_one_nudge(shop, streams):
    with transaction.atomic(using=shop.alias):
        for _ in range(2):
            recorder.record_many([event(shop), event(shop)], into=shop.event)
        hooks = len(transaction.get_connection(shop.alias).run_on_commit)
    assert hooks == 1
    assert streams.wait_nudge(shop.label, timeout_seconds=1)
    assert recorder.last_write.get()[shop.label] == shop.rows(shop.event).first().xid


def test_no_event_needs_no_transaction_and_does_nothing(shop):
    with CaptureQueriesContext(connections[shop.alias]) as queries:
        assert recorder.record_many(iter([]), into=shop.event) == []
    assert len(queries) == 0


def test_many_events_need_a_transaction(shop):
    with pytest.raises(RecordedOutsideTransaction, match=f"2 events.*{shop.alias}"):
        recorder.record_many([event(shop), event(shop)], into=shop.event)


def test_of_many_events_with_a_malformed_one_none_is_inserted(shop, monkeypatch):
    monkeypatch.setattr(recorder, "CHUNK_ROWS", 1)
    with transaction.atomic(using=shop.alias):
        with pytest.raises(MalformedEnvelope, match="sequence"):
            recorder.record_many([event(shop), event(shop), event(shop, "b", "2")], into=shop.event)
        assert_nothing_recorded(shop.event)


@pytest.mark.parametrize(
    "record", [recorder.record, lambda e, into: recorder.record_many([e], into=into)]
)
def test_a_type_of_another_app_is_refused(shop, record):
    foreign = event(shop, type=f"{shop.label}s.thing.changed.v1")
    refused = pytest.raises(MalformedEnvelope, match=f"expected a type of {shop.label}, the app")
    with refused, transaction.atomic(using=shop.alias):
        record(foreign, into=shop.event)
    assert_nothing_recorded(shop.event)


@pytest.fixture
def change(shop: Any) -> Callable[[], Envelope]:
    """A change of a row, and its event."""

    def write() -> Envelope:
        shop.rows(shop.state).create(name="changed", value="1")
        return event(shop)

    return write


def changes(shop: Any) -> int:
    return int(shop.rows(shop.state).filter(name="changed").count())


def test_an_async_view_records_its_event_and_knows_its_last_write(shop, streams, change):
    async def view(request: HttpRequest) -> HttpResponse:
        ids = await recorder.arecord(change, into=shop.event)
        return HttpResponse(f"{ids[0]} {recorder.last_write.get()[shop.label]}")

    async def serve() -> HttpResponse:
        try:
            return await view(AsyncRequestFactory().post("/"))
        finally:
            await sync_to_async(connections.close_all)()  # those of the other thread

    response = asyncio.run(serve())
    row = shop.rows(shop.event).get()
    assert response.content.decode() == f"{row.pk} {row.xid}"
    assert changes(shop) == 1
    assert streams.wait_nudge(shop.label, timeout_seconds=1)


def test_async_code_records_several_events_in_their_order(shop):
    events = [event(shop, "a", n) for n in range(3)]
    ids = async_to_sync(recorder.arecord)(lambda: iter(events), into=shop.event)
    assert recorded(shop.event) == events
    assert ids == sorted(ids)


def test_a_change_of_async_code_is_undone_with_its_event(shop, change):
    def then_fail() -> list[Envelope]:
        return [change(), event(shop, sequence="3")]

    with pytest.raises(MalformedEnvelope):
        async_to_sync(recorder.arecord)(then_fail, into=shop.event)
    assert changes(shop) == 0
    assert_nothing_recorded(shop.event)


def test_async_code_inside_a_transaction_commits_with_it(shop, change):
    before = recorder.last_write.get()
    with suppress(ZeroDivisionError), transaction.atomic(using=shop.alias):
        async_to_sync(recorder.arecord)(change, into=shop.event)
        assert len(recorded(shop.event)) == 1
        raise ZeroDivisionError
    assert changes(shop) == 0
    assert_nothing_recorded(shop.event)
    assert recorder.last_write.get() == before


async def asynchronous() -> None:
    """Not an ordinary function."""


@pytest.mark.parametrize(
    ("write", "message"),
    [(lambda: None, "`write` returned None; return an Envelope"), (asynchronous, "async function")],
)
def test_async_code_needs_a_function_that_returns_events(shop, write, message):
    with pytest.raises(TypeError, match=message):
        async_to_sync(recorder.arecord)(write, into=shop.event)
    assert_nothing_recorded(shop.event)
