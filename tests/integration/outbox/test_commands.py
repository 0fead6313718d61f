"""The management commands of the outbox."""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError, connections
from django.utils import timezone

from outbox import consumer as consuming
from outbox import status
from outbox.consumer import Superseding
from outbox.consuming.reader import Reader
from outbox.errors import BelowFloor
from outbox.publishing import retention
from outbox.publishing.relay import own_connection, try_lock
from tests.integration.outbox.conftest import consumer_of
from tests.support.databases import execute_as_owner
from tests.support.waiting import eventually


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


@pytest.fixture
def refusing(shop, streams, monkeypatch) -> Any:
    """The only consumer has a handler that fails until `fixed` is set."""

    class Refusing:
        fixed = False

        def __call__(self, envelope: Any) -> None:
            if not self.fixed:
                raise ValueError("not yet")

    handler = Refusing()
    consumer = consumer_of(shop, handler)
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer]))
    reader = Reader(consumer, shop.label, streams, stopping=threading.Event())
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    handler.step = reader.step  # type: ignore[attr-defined]
    handler.confirm = reader.confirm  # type: ignore[attr-defined]
    return handler


def test_relay_once_publishes_waiting_events(shop, streams, record):
    record("a", 1)
    run("outbox", "relay", shop.label, "--once")
    assert streams.entries(shop.label) == 1


def test_relay_once_fails_next_to_a_running_relay_unless_shared(shop, streams, record):
    record("a", 1)
    with own_connection(shop) as connection:
        assert try_lock(connection, shop.label)
        with pytest.raises(CommandError, match=f"{shop.label}: another relay"):
            run("outbox", "relay", shop.label, "--once")
        assert streams.entries(shop.label) == 0
        run("outbox", "relay", shop.label, "--once", "--shared")
    assert streams.entries(shop.label) == 1


def test_an_error_names_an_unknown_service_or_consumer(shop, streams):
    with pytest.raises(CommandError, match=f"no service 'unknown'.*{shop.label}"):
        run("outbox", "relay", "unknown")
    with pytest.raises(CommandError, match="no consumer 'unknown'"):
        run("outbox", "consume", "--consumer", "unknown")


def test_parked_lists_sequences_and_retry_applies_them(shop, record, relay, refusing):
    assert "nothing is parked" in run("outbox", "parked")
    for sequence in (1, 2):
        record("a", sequence)
    record("b", 1)
    relay.drain()
    refusing.step()

    lines = [json.loads(line) for line in run("outbox", "parked", "list", "--json").splitlines()]
    assert {(line["key"], line["events"], line["error"]) for line in lines} == {
        ("a", 2, "ValueError: not yet"),
        ("b", 1, "ValueError: not yet"),
    }
    with pytest.raises(CommandError, match="2 of 2 sequences are still parked"):
        run("outbox", "parked", "retry")

    refusing.fixed = True
    assert "2 applied" in run("outbox", "parked", "retry", "a")
    assert "b" in run("outbox", "parked")
    assert "1 applied" in run("outbox", "parked", "retry", "--consumer", "probe")
    assert "nothing is parked" in run("outbox", "parked")


def test_a_dropped_event_stays_with_its_reason_and_holds_back_no_later_event(
    shop, record, relay, refusing
):
    for key, sequence in (("a", 1), ("a", 2), ("b", 1)):
        record(key, sequence)
    relay.drain()
    refusing.step()

    reason = ("--reason", "its order is lost")
    assert "1 dropped, 1 still parked" in run("outbox", "parked", "drop", "a", *reason, "--first")
    assert "1 dropped, 0 still parked" in run("outbox", "parked", "drop", "b", *reason)
    refusing.fixed = True
    record("a", 3)  # waits behind the second event of its key
    record("b", 2)
    relay.drain()
    refusing.step()
    waiting = shop.parked._default_manager.filter(dropped_at=None)
    assert list(waiting.values_list("key", flat=True)) == ["a", "a"]
    assert "2 applied" in run("outbox", "parked", "retry")

    assert "nothing is parked" in run("outbox", "parked")
    rows = shop.parked._default_manager.order_by("id")
    assert [(row.key, json.loads(row.body)["sequence"]) for row in rows] == [("a", 1), ("b", 1)]
    assert {row.drop_reason for row in rows} == {"its order is lost"}
    assert all(row.dropped_at and row.dropped_by and row.error for row in rows)
    status = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    assert status["consumers"]["probe"]["parked"] == 0


def test_a_drop_leaves_the_events_that_arrived_after_the_listing(
    shop, record, relay, refusing, monkeypatch
):
    def arrive(sequence: int) -> str:
        record("a", sequence)
        relay.drain()
        refusing.step()
        return "ada"

    arrive(1)
    listed = json.loads(run("outbox", "parked", "list", "a", "--json"))["last"]
    arrive(2)
    drop = ("outbox", "parked", "drop", "a", "--reason", "a test")
    assert "1 dropped, 1 still parked" in run(*drop, "--upto", str(listed))
    # The command finds the second event. The third event arrives before the drop.
    monkeypatch.setattr("outbox.management.parked._operator", lambda: arrive(3))
    assert "1 dropped, 1 still parked" in run(*drop)
    row = shop.parked._default_manager.get(dropped_at=None)
    assert json.loads(row.body)["sequence"] == 3


def test_an_event_that_supersedes_others_is_never_dropped(
    shop, record, relay, refusing, monkeypatch
):
    erased = f"{shop.label}.thing.erased.v1"
    (probe,) = consuming.every()
    consumer = replace(probe, handlers={**probe.handlers, erased: Superseding(refusing)})
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer]))
    record("a", 1)
    record("a", 2, type=erased)
    relay.drain()
    refusing.step()
    rows = shop.parked._default_manager
    drop = ("outbox", "parked", "drop", "a", "--reason", "a test")
    refusal = f"nothing was dropped: the event {rows.latest('id').pk} is {erased}, which probe must"
    with pytest.raises(CommandError, match=refusal):
        run(*drop)
    assert rows.filter(dropped_at=None).count() == 2
    assert "1 dropped, 1 still parked" in run(*drop, "--first")
    with pytest.raises(CommandError, match=refusal):
        run(*drop, "--first")
    refusing.fixed = True
    assert "1 applied" in run("outbox", "parked", "retry", "a")
    assert not rows.exists()


def test_parked_refuses_wrong_arguments_in_one_line(shop, record, relay, refusing, monkeypatch):
    record("a", 1)
    relay.drain()
    refusing.step()
    (probe,) = consuming.every()
    handlers = {**probe.handlers, "elsewhere.thing.changed.v1": refusing}
    other = replace(probe, name="other", handlers=handlers)
    monkeypatch.setattr(consuming, "every", lambda: iter([probe, other]))
    parked = shop.parked._default_manager.get()
    for producer in (shop.label, "elsewhere"):
        parked.pk, parked.consumer, parked.producer = None, "other", producer
        parked.save()
    producers = ", ".join(sorted((shop.label, "elsewhere")))
    for arguments, error in [
        (("list", "wrong"), "no sequence of the key 'wrong' is parked"),
        (("retry", "wrong"), "no sequence of the key 'wrong' is parked"),
        (("drop", "wrong", "--reason", "x"), "no sequence of the key 'wrong' is parked"),
        (("drop", "--reason", "x"), "drop needs the key of a sequence and --reason"),
        (("drop", "a"), "drop needs the key of a sequence and --reason"),
        (("drop", "a", "--reason", " "), "drop needs the key of a sequence and --reason"),
        (("drop", "a", "--reason", "x"), "choose a consumer with --consumer: other, probe"),
        (
            ("drop", "a", "--reason", "x", "--consumer", "other"),
            f"choose a producer with --producer: {producers}",
        ),
        (("retry", "a", "--first"), "--reason, --first and --upto are options of drop"),
    ]:
        with pytest.raises(CommandError, match=error):
            run("outbox", "parked", *arguments)
    assert shop.parked._default_manager.filter(dropped_at=None).count() == 3
    named = ("--reason", "x", "--consumer", "other", "--producer", "elsewhere")
    assert "1 dropped, 0 still parked" in run("outbox", "parked", "drop", "a", *named)


def test_status_reports_waiting_events(shop, streams, record, relay, refusing):
    record("a", 1)
    relay.drain()
    refusing.step()
    record("a", 2)
    relay.drain()
    record("b", 1)

    service = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    cursor = streams.cursor(shop.label)
    assert service["outbox"]["rows"] == 3
    assert service["outbox"]["unpublished"] == 1
    assert 0 <= service["outbox"]["oldest_unpublished_seconds"] < 60
    assert service["outbox"]["last_tick"] == shop.tick._default_manager.order_by("-pk")[0].pk
    at = f"{cursor.complete}, complete"
    assert service["streams"] == {"entries": 2, "cursor": at}
    lag = service["consumers"]["probe"]
    assert (lag["lag_events"], lag["parked"]) == (1, 1)
    assert 0 <= lag["lag_seconds"] < 60
    text = run("outbox", "status")
    assert "1 unpublished" in text
    assert "1 parked" in text
    assert f"cursor {at}\n" in text


def test_a_bounded_count_has_the_age_of_the_oldest_row(shop, streams, record, relay):
    record("a", 1)
    relay.drain()
    record("b", 1, time=timezone.now() - timedelta(hours=1))
    record("c", 1)
    record("d", 1)
    # A new version of the first row: a scan of the table finds it last.
    shop.event._default_manager.filter(body__contains='"b"').update(partition=0)

    at = streams.cursor(shop.label).at
    found = status.of_outbox(shop, at, known=True, count_at_most=1)

    assert found["unpublished"] == 1
    assert found["oldest_unpublished_seconds"] > 3000


def test_status_of_an_empty_outbox(shop, streams):
    service = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    assert service["outbox"] == {
        "rows": 0,
        "unpublished": 0,
        "oldest_unpublished_seconds": None,
        "last_tick": 0,
    }


def test_status_reports_an_unavailable_stream_server(shop, streams, record, monkeypatch):
    from outbox.errors import StreamsUnavailable

    def unavailable(label: str) -> None:
        raise StreamsUnavailable("the stream server doesn't answer")

    monkeypatch.setattr(streams, "cursor", unavailable)
    record("a", 1)
    service = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    assert "doesn't answer" in service["streams"]["error"]
    assert service["outbox"]["rows"] == 1


def test_cached_sequence_ids_are_an_error(shop):
    table = shop.event._meta.db_table
    execute_as_owner(shop.alias, f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 20")
    try:
        found = run_checks(databases=[shop.alias])
        assert "outbox.E003" in [message.id for message in found]
    finally:
        execute_as_owner(shop.alias, f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 1")
    assert [m for m in run_checks(databases=[shop.alias]) if m.id == "outbox.E003"] == []


def test_another_number_of_partitions_is_an_error(shop, settings):
    shop.state._default_manager.create(name="partitions", value="16")
    settings.OUTBOX_PARTITIONS = 8
    assert "outbox.E004" in [m.id for m in run_checks(databases=[shop.alias])]


@pytest.fixture
def relaying(shop, streams, monkeypatch, settings) -> Iterator[Callable[..., Future[None]]]:
    """Starts `manage.py outbox relay` in a thread of this process."""
    settings.OUTBOX_RETENTION_SECONDS = 0
    monkeypatch.setattr("outbox.management.pruning.PRUNE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr("outbox.publishing.relay.NUDGE_WAIT_SECONDS", 0.05)
    stopping = threading.Event()
    monkeypatch.setattr("outbox.management.relay.stop_on_signals", lambda: stopping)
    with ThreadPoolExecutor(1) as pool:

        def start() -> Future[None]:
            return pool.submit(
                call_command, "outbox", "relay", shop.label, stdout=StringIO(), stderr=StringIO()
            )

        try:
            yield start
        finally:
            stopping.set()
            pool.submit(connections.close_all)


def test_a_relay_in_the_foreground_saves_confirmations_and_prunes(
    shop, streams, record, refusing, relaying
):
    refusing.fixed = True
    (probe,) = consuming.every()
    record("a", 1)
    running = relaying()
    eventually(lambda: streams.entries(shop.label), within_seconds=10, what="the event is sent")
    refusing.step()
    refusing.confirm()
    rows = shop.event._default_manager
    eventually(lambda: not rows.exists(), within_seconds=10, what="the row is deleted")
    assert not running.done()
    assert "holds back" not in run("outbox", "status")
    assert status.of_subscribers(shop)[probe.subscriber]["saved_seconds"] < 10


def test_a_relay_whose_retention_ends_stops_its_process(
    shop, streams, relaying, monkeypatch, caplog
):
    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("outbox.management.pruning.prune", fail)
    ended = relaying().exception(10)
    assert isinstance(ended, SystemExit)
    assert ended.code == 1
    (line,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert line.getMessage() == (
        f"the thread retention of {shop.label} has ended, so this process stops: ValueError: a bug"
    )


def test_a_round_of_retention_that_fails_is_logged_once_and_tried_again(
    shop, streams, relaying, monkeypatch, caplog
):
    errors = iter([DataError("a strange row")] * 3)
    rounds: list[int] = []

    def fail_first(*_: Any) -> None:
        rounds.append(1)
        if error := next(errors, None):
            raise error

    monkeypatch.setattr("outbox.management.pruning.prune", fail_first)
    running = relaying()
    eventually(lambda: len(rounds) > 3, within_seconds=10, what="a round succeeds")
    assert not running.done()
    assert caplog.text.count(f"the outbox of {shop.label} was not pruned: DataError") == 1


@pytest.mark.parametrize(("run_seconds", "lines"), [(60.0, 1), (-1.0, 3)])
def test_an_outage_is_shown_once_and_the_same_one_after_a_recovery_again(
    shop, streams, monkeypatch, run_seconds, lines
):
    stopping, starts, shown = threading.Event(), [], StringIO()

    def fail(*_: Any, **__: Any) -> None:
        starts.append(1)
        if len(starts) > 3:
            stopping.set()
        raise OperationalError("the server is down")

    monkeypatch.setattr("outbox.management.relay.stop_on_signals", lambda: stopping)
    monkeypatch.setattr("outbox.management.relay.relay.run", fail)
    monkeypatch.setattr("outbox.management.relay.RETRY_SECONDS", 0)
    monkeypatch.setattr("outbox.management.relay.RUN_SECONDS", run_seconds)
    call_command("outbox", "relay", shop.label, stdout=StringIO(), stderr=shown)
    assert shown.getvalue().count("the server is down; trying again") == lines


def test_retention_that_fails_alone_for_long_is_a_warning(
    shop, streams, relaying, monkeypatch, caplog
):
    """Only this thread's session fails, e.g. because the role may open no other."""
    rounds: list[int] = []

    def fail(*_: Any) -> None:
        rounds.append(1)
        raise OperationalError("too many connections")

    monkeypatch.setattr("outbox.management.pruning.prune", fail)
    relaying()
    eventually(lambda: len(rounds) > 10, within_seconds=10, what="retention fails for long")
    found = [each for each in caplog.records if "was not pruned" in each.getMessage()]
    assert [each.levelno for each in found if each.levelno > logging.INFO] == [logging.WARNING]


def test_consume_without_consumers_is_refused(streams, monkeypatch):
    monkeypatch.setattr(consuming, "every", lambda: iter(()))
    refusal = "no consumer is declared: .*consumers.py with the table CONSUMERS; no entry is in .*"
    with pytest.raises(CommandError, match=refusal):
        run("outbox", "consume")


def test_consume_before_migrate_is_refused_in_one_line(streams, monkeypatch):
    first = next(iter(consuming.every()))
    monkeypatch.setattr(first.tables.parked._meta, "db_table", "not_there")
    refusal = f"^{first.tables.label} isn't migrated: run manage.py migrate --database "
    with pytest.raises(CommandError, match=refusal):
        run("outbox", "consume", "--consumer", first.name)


def test_a_subscriber_that_is_not_saved_yet_can_be_removed(shop, streams):
    every = dict.fromkeys(range(16), 5)
    streams.confirm(shop.label, "slow.one", every)
    with pytest.raises(CommandError, match=r"no subscriber 'slow\.two'; subscribers: slow\.one"):
        run("outbox", "unsubscribe", shop.label, "slow.two")
    run("outbox", "unsubscribe", shop.label, "slow.one")
    retention.save_confirmations(shop, streams)
    assert streams.confirmations(shop.label, subscribers=["slow.one"]) == {}
    assert status.of_subscribers(shop) == {}


def test_status_says_whether_a_subscriber_is_silent_or_its_confirmations_are_not_saved(
    shop, streams
):
    def shown() -> str:
        (line,) = [line for line in run("outbox", "status").splitlines() if "slow.one" in line]
        return line

    def age(seconds: int) -> dict[str, Any]:
        at = timezone.now() - timedelta(seconds=seconds)
        rows = shop.subscription._default_manager
        rows.update_or_create(name="slow.one", defaults={"confirmed": 5, "confirmed_at": at})
        return status.of_subscribers(shop, streams)["slow.one"]

    found = age(100)
    assert found["silent_seconds"] is None
    assert found["saved_seconds"] >= 100
    held = r"slow\.one holds back retention: last confirmation 1\d\d s ago"
    assert re.search(held, shown())
    streams.confirm(shop.label, "slow.one", dict.fromkeys(range(16), 5))
    found = age(100)
    assert found["silent_seconds"] < 50
    unsaved = r"slow\.one confirms, but its confirmations are not saved, the last one 1\d\d s"
    assert re.search(unsaved, shown())
    age(1)
    assert "slow.one" not in run("outbox", "status")


def test_status_names_the_command_for_a_consumer_below_the_floor(
    shop, streams, record, relay, refusing
):
    record("a", 1)
    relay.drain()
    streams.prune(shop.label, floor=streams.cursor(shop.label).complete)

    def found() -> dict[str, Any]:
        report = json.loads(run("outbox", "status", "--json"))
        return dict(report["services"][shop.label]["consumers"]["probe"])

    command = "manage.py outbox backfill --adopt probe"
    assert found()["waits_for"] == command
    text = run("outbox", "status")
    assert f"below the floor, waits for: {command}, 0 parked" in text
    assert "events behind" not in text.partition("probe")[2].partition("\n")[0]
    with pytest.raises(BelowFloor, match=f"run {command}, then where {shop.label} runs"):
        refusing.step()
    run(*command.split()[1:])
    assert found()["waits_for"] == ""
    refusing.step()


def test_status_and_parked_work_without_time_zones(
    shop, streams, record, relay, refusing, settings
):
    settings.TIME_ZONE = "Asia/Tokyo"
    settings.USE_TZ = False
    record("a", 1)
    relay.drain()
    refusing.step()
    refusing.confirm()
    retention.save_confirmations(shop, streams)
    service = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    (seen,) = service["subscribers"].values()
    assert 0 <= seen["silent_seconds"] <= seen["saved_seconds"] < 60
    assert 0 <= service["consumers"]["probe"]["lag_seconds"] < 60
    assert json.loads(run("outbox", "parked", "list", "--json"))["key"] == "a"
    assert "1 dropped" in run("outbox", "parked", "drop", "a", "--reason", "a test")
    record("a", 2)
    service = json.loads(run("outbox", "status", "--json"))["services"][shop.label]
    assert 0 <= service["outbox"]["oldest_unpublished_seconds"] < 60
