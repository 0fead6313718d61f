"""The outbox with the options that only psycopg 3 has."""

import threading

import pytest
from django.db import connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from outbox import drivers, pooling
from outbox.publishing import relay as relaying
from outbox.rebuilding.follower import Follower
from tests.integration.outbox.conftest import consumer_of
from tests.support.waiting import eventually

only_psycopg3 = pytest.mark.skipif(not is_psycopg3, reason="an option of psycopg 3")


@pytest.fixture
def pooled(shop, monkeypatch):
    """The alias, now of a pool with one session."""
    alias = shop.alias
    connections[alias].close()
    options = connections[alias].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "pool", {"min_size": 1, "max_size": 1, "timeout": 5})
    monkeypatch.setitem(connections[alias].settings_dict, "CONN_MAX_AGE", 0)
    yield alias
    connections[alias].close()
    connections[alias].close_pool()


def settings_of(alias: str) -> list[tuple[str]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'enable%%'"
            " UNION SELECT name FROM pg_prepared_statements WHERE name LIKE 'outbox%%'",
            [],
        )
        return cursor.fetchall()


def test_the_rows_are_those_of_the_last_statement(shop):
    with connections[shop.alias].cursor() as cursor:
        drivers.execute(cursor, "SELECT 1; SELECT %(n)s + 1, %(text)s", {"n": 2, "text": "%s'\\"})
        assert cursor.fetchall() == [(3, "%s'\\")]


@only_psycopg3
def test_a_pool_with_one_session_is_no_pooler_and_costs_no_wait(pooled, monkeypatch):
    monkeypatch.setattr(pooling, "_direct", set())
    pooling.check_direct(connections[pooled])
    assert pooling._direct == {pooled}


@only_psycopg3
def test_relay_and_readers_work_beside_a_pool_with_one_session(
    shop, pooled, streams, record, reader_of
):
    applied: list[int] = []
    reader = reader_of(lambda envelope: applied.append(envelope.sequence))
    relay_stopping = threading.Event()
    follower = Follower(
        consumer_of(shop, applied.append), name="other", producer=shop.label, streams=streams
    )
    threads = [
        threading.Thread(target=reader.run),
        threading.Thread(
            target=relaying.run, args=(shop, streams), kwargs={"stopping": relay_stopping}
        ),
    ]
    record(sequence=1)  # from now on, this thread has the pool's session
    for thread in threads:
        thread.start()
    try:
        with follower.paused():
            record(sequence=2)
            eventually(lambda: applied == [1, 2], within_seconds=20, what="both are applied")
    finally:
        reader._stopping.set()
        relay_stopping.set()
        for thread in threads:
            thread.join(20)
    assert settings_of(pooled) == []


@only_psycopg3
def test_a_reader_keeps_its_statements_although_psycopg_prepares_some(
    shop, streams, relay, record, reader_of, monkeypatch
):
    """After a ROLLBACK, psycopg 3 deletes all prepared statements of such a session."""
    monkeypatch.setitem(connections[shop.alias].settings_dict["OPTIONS"], "prepare_threshold", 0)
    applied: list[int] = []

    def handle(envelope):
        with connections[shop.alias].cursor() as cursor:
            cursor.execute("SELECT %s::int", [envelope.sequence])
        applied.append(envelope.sequence)
        if applied == [1, 2]:
            raise ValueError("roll back")

    reader = reader_of(handle)
    pauses: list[int] = []
    monkeypatch.setattr(reader, "_pause", pauses.append)
    for sequence in (1, 2, 3):
        record(sequence=sequence)
    relay.drain()
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        eventually(lambda: applied[-1:] == [3], within_seconds=20, what="all are applied")
    finally:
        reader._stopping.set()
        thread.join(20)
    assert pauses == [], "the events are applied singly, without another error"
