"""Errors of the reader's own servers park nothing. An outage of another server, which only a
handler uses, holds up the consumer for a bounded time."""

import errno
import logging
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction

from outbox.consuming.outages import OUTAGE_SECONDS
from outbox.consuming.reader import TRIES, Reader
from tests.integration.outbox.test_reader import Probe, parked, publish
from tests.support.databases import execute_as_owner

TRANSIENT = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock timeout


class Pauses:
    """A clock that only the reader's pauses advance, by five seconds each."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> float:
        return self.number * 5.0

    def pause(self, _: int) -> None:
        self.number += 1
        assert self.number < 50, "the reader tries without an end"


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def reader_with(reader_of, monkeypatch, pauses) -> Callable[..., Reader]:
    def make(handler: Any) -> Reader:
        reader = reader_of(handler)
        monkeypatch.setattr(reader, "_pause", pauses.pause)
        reader._outage._clock = pauses
        return reader

    return make


@pytest.fixture
def probe(shop: Any) -> Probe:
    return Probe(shop)


@pytest.fixture
def other_database(shop: Any) -> Iterator[Any]:
    other = connections[shop.alias].copy()
    yield other
    other.close()


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port on which nothing listens, and that no other process gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def fail_with(connection: Any, code: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'a test' USING ERRCODE = '{code}'; END $$")


def end_session(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def own_failures(alias: str) -> dict[str, Callable[[], None]]:
    own = connections[alias]

    def in_savepoint() -> None:
        with transaction.atomic(using=alias):
            fail_with(own, "40P01")

    def wrapped() -> None:
        try:
            fail_with(own, "40001")
        except OperationalError as exc:
            raise TimeoutError("the service was too slow") from exc

    def lost_without_a_statement() -> None:
        own.connection.close()
        raise ConnectionError("gone")

    codes = {code: lambda code=code: fail_with(own, code) for code in TRANSIENT}
    return {
        **codes,
        "a lost session": lambda: end_session(own),
        "in a savepoint": in_savepoint,
        "wrapped": wrapped,
        "closed": lost_without_a_statement,
    }


@pytest.mark.parametrize(
    "failure", [*TRANSIENT, "a lost session", "in a savepoint", "wrapped", "closed"]
)
def test_an_error_of_the_readers_own_session_is_never_parked(
    shop, relay, record, reader_with, probe, pauses, failure
):
    tries = int(2 * OUTAGE_SECONDS / 5)

    def handle(envelope: Any) -> None:
        if pauses.number < tries:
            own_failures(shop.alias)[failure]()
        probe(envelope)

    publish(relay, record, ("a", 1))
    reader_with(handle).step()
    assert (probe.applied, parked(shop), pauses.number) == ([("a", 1)], [], tries)


def fail(error: OSError) -> None:
    raise error


@pytest.fixture
def foreign_failures(other_database, refusing_port) -> dict[str, Callable[[], None]]:
    def call_a_service() -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{refusing_port}/", timeout=5)

    return {
        "a refused connection": lambda: socket.create_connection(
            ("127.0.0.1", refusing_port)
        ).close(),
        "an HTTP client": call_a_service,
        "an unknown host": lambda: fail(socket.gaierror(socket.EAI_NONAME, "Name not known")),
        "an unreachable host": lambda: fail(OSError(errno.EHOSTUNREACH, "No route to host")),
        "a deadlock in another database": lambda: fail_with(other_database, "40P01"),
        "a lost session of another database": lambda: end_session(other_database),
    }


@pytest.mark.parametrize(
    "failure",
    [
        "a refused connection",
        "an HTTP client",
        "an unknown host",
        "an unreachable host",
        "a deadlock in another database",
        "a lost session of another database",
    ],
)
def test_an_outage_of_another_server_parks_after_its_bound_and_not_for_each_key(
    shop, relay, record, reader_with, probe, pauses, foreign_failures, failure
):
    tried: list[str] = []

    def handle(envelope: Any) -> None:
        if envelope.partitionkey != "ok":
            tried.append(envelope.partitionkey)
            foreign_failures[failure]()
        probe(envelope)

    reader = reader_with(handle)
    publish(relay, record, ("a", 1))
    reader.step()
    assert pauses.number == OUTAGE_SECONDS / 5
    assert len(tried) > TRIES
    assert [key for key, _, _ in parked(shop)] == ["a"]

    tried.clear()
    publish(relay, record, *((key, 1) for key in "bcd"), ("a", 2))
    reader.step()
    assert pauses.number == OUTAGE_SECONDS / 5, "a long outage costs no second wait"
    # The batch stops at its first event; then each event is tried alone, once.
    assert tried == ["b", "b", "c", "d"]
    assert {(key, has_error) for key, _, has_error in parked(shop)} == {
        *((key, True) for key in "abcd"),
        ("a", False),
    }

    publish(relay, record, ("ok", 1))  # ends the outage
    reader.step()
    assert probe.applied == [("ok", 1)]
    pauses.number += int(OUTAGE_SECONDS / 5)
    before = pauses.number
    publish(relay, record, ("e", 1))
    reader.step()
    assert pauses.number - before == OUTAGE_SECONDS / 5


def test_an_outage_of_another_server_that_ends_in_time_parks_nothing(
    shop, relay, record, reader_with, probe, pauses, foreign_failures
):
    def handle(envelope: Any) -> None:
        if pauses.number < OUTAGE_SECONDS / 5:
            foreign_failures["a refused connection"]()
        probe(envelope)

    publish(relay, record, ("a", 1), ("b", 1))
    reader_with(handle).step()
    assert (probe.applied, parked(shop)) == ([("a", 1), ("b", 1)], [])


def test_a_position_that_nothing_moves_is_logged_with_its_key_until_it_moves(
    shop, relay, record, reader_with, probe, pauses, caplog
):
    table = shop.position._meta.db_table
    reader = reader_with(probe)
    reader.step()
    execute_as_owner(
        shop.alias,
        "CREATE FUNCTION probe_keep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN NULL; END'; "
        f"CREATE TRIGGER probe_keep BEFORE UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION probe_keep()",
    )
    drop = f"DROP TRIGGER IF EXISTS probe_keep ON {table}; DROP FUNCTION IF EXISTS probe_keep()"
    pause = reader._pause

    def repair_at_the_fifth(attempt: int) -> None:
        pause(attempt)
        if pauses.number == 5:
            execute_as_owner(shop.alias, drop)

    reader._pause = repair_at_the_fifth
    try:
        publish(relay, record, ("a", 1))
        reader.step()
    finally:
        execute_as_owner(shop.alias, drop)
    assert (probe.applied, parked(shop)) == ([("a", 1)], [])
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    stuck, moved = lines
    assert f"probe of {shop.label} can't move its position in partition" in stuck
    assert "(key a), for 0 s" in stuck
    assert f"probe of {shop.label} is no longer fenced" in moved


@pytest.mark.shape("accounts", "orders")  # another shape has one database
def test_a_lost_session_of_another_database_is_opened_again(
    shop, relay, record, reader_with, probe, pauses
):
    """Outside a request, nothing else replaces a broken connection. So each event would be parked
    until the process ends."""
    other = next(connections[alias] for alias in connections if alias != shop.alias)

    def handle(envelope: Any) -> None:
        if not pauses.number:
            end_session(other)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1")
        probe(envelope)

    publish(relay, record, ("a", 1))
    reader_with(handle).step()
    assert (probe.applied, parked(shop), pauses.number) == ([("a", 1)], [], 1)
