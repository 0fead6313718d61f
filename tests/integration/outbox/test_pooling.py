"""A pooler in transaction mode is named in one line, at the start and when it changes a session."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import chain, cycle, repeat
from typing import Any, ClassVar

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from psycopg2.extensions import make_dsn, parse_dsn

from outbox import consumer as consuming
from outbox import pooling, recorder, tasks
from outbox.errors import PooledConnection
from outbox.pacing import Sparing
from outbox.pooling import check_direct
from outbox.prepared import Prepared
from outbox.publishing.relay import Relay, own_connection
from tests.integration.outbox.conftest import consumer_of, event
from tests.integration.outbox.test_reader import Probe, parked, publish
from tests.support import pgbouncer


class Pooler:
    """Gives its clients sessions of the server, as PgBouncer in transaction mode does: each
    statement may get another session, and two clients may get the same one after another."""

    alias = "pooled"
    in_atomic_block = False
    settings_dict: ClassVar[dict[str, Any]] = {"OPTIONS": {}}

    def __init__(self, sessions: Iterator[Any]) -> None:
        self._sessions = sessions

    def copy(self) -> "Pooler":
        return self

    def cursor(self) -> Any:
        return next(self._sessions).cursor()

    def close(self) -> None:
        """Keeps the sessions."""


@pytest.fixture(autouse=True)
def _unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database is known to be reached directly."""
    monkeypatch.setattr(pooling, "_direct", set())


@pytest.fixture
def sessions(shop: Any) -> Iterator[list[Any]]:
    own = connections[shop.alias]
    made = [own.copy() for _ in range(3)]
    yield made
    for session in made:
        session.close()


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda sessions: repeat(sessions[0]), id="one session, or the last idle one"),
        pytest.param(cycle, id="three sessions in turns"),
        pytest.param(lambda sessions: cycle(sessions[:2]), id="two sessions in turns"),
        pytest.param(
            lambda sessions: chain([sessions[0]], repeat(sessions[1])), id="another one later"
        ),
    ],
)
def test_sessions_that_change_or_are_shared_are_recognised(sessions, order):
    with pytest.raises(
        PooledConnection, match="'pooled' goes through a pooler in transaction mode"
    ):
        check_direct(Pooler(order(sessions)))


def test_a_direct_connection_is_accepted_and_not_checked_again(shop, monkeypatch):
    own = connections[shop.alias]
    check_direct(own)
    monkeypatch.setattr(type(own), "copy", lambda _: pytest.fail("checked again"))
    check_direct(own)


@pytest.fixture
def pooled(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection shares the session of the first, as in a pool of one session."""
    own = connections[shop.alias]
    session = pooling._session_of(own)
    monkeypatch.setattr(pooling, "_session_of", lambda _: session)


def test_relay_and_consume_name_the_pooler_and_end(shop, streams, probe, monkeypatch, pooled):
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer_of(shop, probe)]))
    for module in ("consume", "relay"):
        monkeypatch.setattr(f"outbox.management.{module}.stop_on_signals", threading.Event)
    for arguments in (["consume"], ["relay", shop.label], ["relay", shop.label, "--once"]):
        out = StringIO()
        with pytest.raises(CommandError, match=f"{shop.alias!r} goes through a pooler"):
            call_command("outbox", *arguments, stdout=out, stderr=out)
        assert not out.getvalue()


def test_check_setup_names_the_pooler(shop, streams, pooled):
    out = StringIO()
    call_command("outbox", "check-setup", stdout=out)
    named = [line for line in out.getvalue().splitlines() if "outbox.W007" in line]
    assert any(f"The connection '{shop.alias}' goes through a pooler" in line for line in named)


def test_a_task_that_fails_each_second_names_the_pooler_once_a_minute(
    shop, streams, monkeypatch, pooled, caplog
):
    monkeypatch.setattr(tasks, "_lines", Sparing())
    for _ in range(3):
        tasks.relay(shop.label)
    assert caplog.text.count("goes through a pooler in transaction mode") == 1


@pytest.fixture
def probe(shop: Any) -> Probe:
    return Probe(shop)


def test_a_session_that_is_changed_later_is_named_and_parks_nothing(
    shop, relay, record, reader_of, probe, caplog
):
    reader = reader_of(probe)
    publish(relay, record, ("a", 1))
    reader.step()
    publish(relay, record, ("a", 2))
    with connections[shop.alias].cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # as if another session had the statements
    waits: list[float] = []

    def stop(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 3:
            reader._stopping.set()

    reader._stopping.wait = stop  # type: ignore[method-assign]
    reader.run()
    assert (probe.applied, parked(shop)) == ([("a", 1), ("a", 2)], [])
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "has changed: it was reset, or it goes through a pooler in transaction mode" in line


@pytest.mark.parametrize("spoil", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_lost_statements_are_prepared_again_at_the_next_call(shop, spoil):
    own = connections[shop.alias]
    double = Prepared("SELECT %(n)s * 2", types={"n": "int"})

    def answer() -> int:
        with own.cursor() as cursor:
            double.execute(cursor, {"n": 3})
            return int(cursor.fetchone()[0])

    assert answer() == 6
    with own.cursor() as cursor:
        cursor.execute(spoil)
    with pytest.raises(PooledConnection):
        answer()
    assert answer() == 6


@contextmanager
def through_pgbouncer(alias: str) -> Iterator[None]:
    """This thread's connection goes through a PgBouncer in transaction mode, as a web server's."""
    direct = connections[alias]
    known = direct.settings_dict
    server = {"host": "127.0.0.1", "port": known["PORT"], "dbname": known["NAME"]}
    dsn = make_dsn(**server, user=known["USER"], password=known["PASSWORD"])
    with pgbouncer.pooled({alias: dsn}) as pooler:
        address = parse_dsn(pooler.addresses[alias])
        options = {name: value for name, value in known["OPTIONS"].items() if name != "options"}
        pooled = direct.copy()
        pooled.settings_dict = known | {
            "HOST": address["host"],
            "PORT": address["port"],
            "NAME": address["dbname"],
            "OPTIONS": options,
            "DISABLE_SERVER_SIDE_CURSORS": True,
        }
        connections[alias] = pooled
        try:
            yield
        finally:
            pooled.close()
            connections[alias] = direct


@pytest.mark.skipif(pgbouncer.program() is None, reason="PgBouncer is not installed")
def test_a_web_server_records_through_a_real_pooler_which_a_relay_would_refuse(
    shop, streams, record
):
    with through_pgbouncer(shop.alias):
        with pytest.raises(PooledConnection):
            check_direct(connections[shop.alias])
        for number in range(1, 6):
            record(sequence=number)
        with transaction.atomic(using=shop.alias):
            recorder.record_many(
                [event(shop, "b", number) for number in range(1, 3001)], into=shop.event
            )
    with own_connection(shop) as connection:
        Relay(shop, streams, connection).drain()
    assert streams.entries(shop.label) == 3005
