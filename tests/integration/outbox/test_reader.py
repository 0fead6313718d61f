"""A reader commits effects with positions, once and in order, and parks a failing event."""

import json
import re
import threading
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction

from outbox import recorder, trace_context
from outbox.consumer import Consumer, Superseding
from outbox.consuming import idleness
from outbox.consuming import reader as reading
from outbox.consuming.inbox import Inbox
from outbox.consuming.parking import Parking
from outbox.consuming.reader import LONGEST_PAUSE_SECONDS, TRIES, Reader
from outbox.envelope import Envelope
from outbox.errors import Fenced, StreamsMisconfigured, StreamsUnavailable
from outbox.partitions import partition_of
from outbox.publishing.relay import Relay, own_connection
from tests.integration.outbox.conftest import consumer_of, event
from tests.support.databases import execute_as_owner
from tests.support.waiting import eventually


class Probe:
    """A handler that writes a row for each event, or raises the error that `fail` returns."""

    def __init__(self, shop: Any, name: str = "probe") -> None:
        self._effects = shop.state._default_manager.using(shop.alias)
        self._name = name
        self.fail: Callable[[Any], BaseException | None] = lambda _: None

    def __call__(self, envelope: Any) -> None:
        if error := self.fail(envelope):
            raise error
        number = len(self.applied)
        self._effects.create(
            name=f"{self._name} {number:06}",
            value=f"{envelope.partitionkey} {envelope.sequence}",
        )

    @property
    def applied(self) -> list[tuple[str, int]]:
        rows = self._effects.filter(name__startswith=f"{self._name} ").order_by("name")
        return [(row.value.split()[0], int(row.value.split()[1])) for row in rows]


@pytest.fixture
def probe(shop: Any) -> Probe:
    return Probe(shop)


@pytest.fixture
def reader(reader_of: Callable[..., Any], probe: Probe, monkeypatch: pytest.MonkeyPatch) -> Any:
    reader = reader_of(probe)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    return reader


def publish(relay: Relay, record: Callable[..., Any], *events: tuple[str, int]) -> None:
    for key, sequence in events:
        record(key, sequence)
    relay.drain()


def positions(shop: Any) -> dict[int, str]:
    return Inbox(shop, consumer="probe", producer=shop.label).stored()


PARTITION = partition_of("a", partitions=16)
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def standby_of(shop: Any) -> Callable[[], None]:
    """Simulates a standby that gets no later commits; call the result to promote the standby."""
    held = positions(shop)
    effects = shop.state._default_manager.filter(name__startswith="probe ")
    kept = list(effects.values_list("name", flat=True))

    def promote() -> None:
        for partition, entry in held.items():
            rows = shop.position._default_manager.filter(consumer="probe", partition=partition)
            rows.update(entry=entry)
        effects.exclude(name__in=kept).delete()

    return promote


def run_until(sequence: int, reader: Reader, probe: Probe) -> None:
    """Run the loop of the reader until it has applied the event with this sequence."""
    fail = probe.fail

    def stop_at(envelope: Any) -> BaseException | None:
        error = fail(envelope)
        if envelope.sequence == sequence and error is None:
            reader._stopping.set()
        return error

    probe.fail = stop_at
    reader.run()


def parked(shop: Any) -> list[tuple[str, int, bool]]:
    """For each parked event: (key, place among the parked events, whether it has an error)."""
    rows = shop.parked._default_manager.order_by("id")
    return [(row.key, number, bool(row.error)) for number, row in enumerate(rows, start=1)]


def test_events_are_applied_once_and_in_the_order_of_their_commits(relay, record, reader, probe):
    publish(relay, record, ("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2))
    assert reader.step() == 5
    assert reader.step() == 0
    assert probe.applied == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2)]


def test_a_new_process_resumes_at_the_committed_positions(relay, record, reader_of, probe):
    publish(relay, record, ("a", 1))
    reader_of(probe).step()
    publish(relay, record, ("a", 2))
    reader_of(probe).step()
    assert probe.applied == [("a", 1), ("a", 2)]


def test_a_batch_that_fails_leaves_neither_effects_nor_positions(
    shop, relay, record, reader, probe
):
    publish(relay, record, ("a", 1))
    probe.fail = lambda _: OperationalError("the server went away")
    reader._stopping.set()  # so that the reader makes no further try
    reader.step()
    assert positions(shop)[PARTITION] == "0-0"
    reader._stopping.clear()
    probe.fail = lambda _: None
    reader.step()
    assert probe.applied == [("a", 1)]


def test_a_reader_with_outdated_positions_applies_no_event_again(
    relay, record, reader_of, probe, monkeypatch
):
    zombie, other = reader_of(probe), reader_of(probe)
    monkeypatch.setattr(zombie, "_pause", lambda _: None)
    zombie.step()  # the reader reads the current positions
    publish(relay, record, ("a", 1))
    other.step()
    zombie.step()
    publish(relay, record, ("a", 2))
    zombie.step()
    assert probe.applied == [("a", 1), ("a", 2)]


def test_ignored_events_move_the_positions_after_a_delay(shop, relay, record, reader, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(reading, "CONFIRM_SECONDS", 3600)
    reader.step()
    before = positions(shop)
    record("a", 1, type=f"{shop.label}.thing.noted.v1")
    relay.drain()
    assert reader.step() == 1
    assert positions(shop) == before, "a single ignored event writes nothing"
    now[0] += reading.PENDING_SECONDS
    assert reader.step() == 0
    assert positions(shop)[PARTITION] == reader._streams.cursor(shop.label).tops[PARTITION]


def test_an_applied_event_moves_positions_past_ignored_events(
    shop, relay, record, reader, probe, monkeypatch
):
    monkeypatch.setattr(reading, "PENDING_SECONDS", 3600)
    monkeypatch.setattr(reading, "CONFIRM_SECONDS", 3600)
    reader.step()
    for key in "abcd":
        record(key, 1, type=f"{shop.label}.thing.noted.v1")
    relay.drain()
    assert reader.step() == 4
    publish(relay, record, ("a", 2))
    assert reader.step() == 1
    assert probe.applied == [("a", 2)]
    tops = reader._streams.cursor(shop.label).tops
    assert {partition: positions(shop)[partition] for partition in tops} == tops


def test_an_ignored_event_is_not_parked_behind_one_that_fails(shop, relay, record, reader, probe):
    probe.fail = lambda _: ValueError("no")
    record("a", 1)
    record("a", 2, type=f"{shop.label}.thing.noted.v1")
    record("a", 3)
    relay.drain()
    reader.step()
    assert [row.entry.partition("-")[2] for row in shop.parked._default_manager.order_by("id")] == [
        str(row) for row in shop.event._default_manager.order_by("id").values_list("id", flat=True)
    ][::2]


def test_a_reader_with_outdated_positions_moves_no_position_back(
    shop, relay, record, reader_of, probe, monkeypatch
):
    monkeypatch.setattr(reading, "PENDING_SECONDS", 3600)
    monkeypatch.setattr(reading, "CONFIRM_SECONDS", 3600)
    zombie, other = reader_of(probe), reader_of(probe)
    zombie.step()
    record("a", 1, type=f"{shop.label}.thing.noted.v1")
    relay.drain()
    assert zombie.step() == 1
    publish(relay, record, ("a", 2))
    other.step()
    moved = positions(shop)
    with pytest.raises(Fenced):
        zombie.confirm()
    assert positions(shop) == moved
    assert probe.applied == [("a", 2)]


def test_a_position_moves_only_from_its_stored_value(shop):
    inbox = Inbox(shop, consumer="probe", producer=shop.label)
    inbox.open([0, 1])
    with transaction.atomic(using=shop.alias):
        inbox.move({0: ("0-0", "5-1"), 1: ("0-0", "5-2")})
    with pytest.raises(Fenced), transaction.atomic(using=shop.alias):
        inbox.move({0: ("5-1", "6-1"), 1: ("0-0", "6-2")})
    assert inbox.stored() == {0: "5-1", 1: "5-2"}


def test_a_failing_event_parks_only_its_key_and_keeps_its_order(shop, relay, record, reader, probe):
    probe.fail = lambda envelope: ValueError("no") if envelope.partitionkey == "a" else None
    publish(relay, record, ("a", 1), ("b", 1), ("a", 2))
    reader.step()
    publish(relay, record, ("a", 3), ("b", 2))
    reader.step()
    assert probe.applied == [("b", 1), ("b", 2)]
    assert parked(shop) == [("a", 1, True), ("a", 2, False), ("a", 3, False)]


def test_the_lines_about_an_event_and_of_its_handler_belong_to_its_trace(
    shop, relay, record, reader, probe, monkeypatch
):
    found: dict[str, str] = {}

    def fail(envelope: Any) -> BaseException | None:
        found[envelope.partitionkey] = trace_context.traceparent.get()
        return ValueError("no") if envelope.partitionkey == "a" else None

    def log(message: str, *_: Any) -> None:
        found[message] = trace_context.traceparent.get()

    probe.fail = fail
    monkeypatch.setattr("outbox.consuming.reader.log.error", log)
    with trace_context.continued(TRACEPARENT):
        record("a", 1)
    record("b", 1)
    relay.drain()
    reader.step()
    assert found == {"a": TRACEPARENT, "b": "", "%s parked %s of key %s: %s": TRACEPARENT}


@pytest.fixture
def superseding(shop, probe, streams, monkeypatch) -> tuple[Reader, Consumer]:
    """A reader and its consumer, for which the type `erased` is superseding."""
    kinds = ("thing.changed", "other.changed", "thing.erased")
    handlers: dict[str, Any] = {f"{shop.label}.{kind}.v1": probe for kind in kinds}
    handlers[f"{shop.label}.thing.erased.v1"] = Superseding(probe)
    consumer = Consumer(label=shop.label, name="probe", handlers=handlers)
    reader = Reader(consumer, shop.label, streams, stopping=threading.Event())
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    return reader, consumer


def test_a_superseding_event_deletes_only_its_aggregates_parked_events(
    shop, relay, record, probe, superseding
):
    reader, _ = superseding
    probe.fail = lambda envelope: ValueError("no") if envelope.sequence == 1 else None
    for key in ("a", "b"):
        record(key, 1)
        record(key, 2)
    record("b", 3, type=f"{shop.label}.other.changed.v1")
    record("b", 1, subject="sibling")
    relay.drain()
    reader.step()
    for key in ("a", "b"):
        record(key, 4, type=f"{shop.label}.thing.erased.v1")
        record(key, 5)
    relay.drain()
    reader.step()
    # No event of key a is parked now. Key b keeps the events of two other aggregates, of another
    # type and of another subject. The last event of b is parked behind these events.
    assert sorted(probe.applied) == [("a", 4), ("a", 5), ("b", 4)]
    kept = [Envelope.decode(row.body) for row in shop.parked._default_manager.order_by("id")]
    assert [(each.partitionkey, each.subject, each.sequence) for each in kept] == [
        ("b", "b", 3),
        ("b", "sibling", 1),
        ("b", "b", 5),
    ]


@pytest.mark.parametrize("parked_itself", [False, True])
def test_a_superseding_event_deletes_dropped_events(
    shop, relay, record, probe, superseding, parked_itself
):
    reader, consumer = superseding
    probe.fail = lambda _: ValueError("no")
    record("a", 1)
    relay.drain()
    reader.step()
    rows = shop.parked._default_manager
    of_shadow = rows.get()  # a rebuild that runs has parked the event too
    of_shadow.pk, of_shadow.consumer = None, "probe.next"
    of_shadow.save()
    parking = Parking(shop, consumer="probe", producer=shop.label)
    [dropped] = rows.filter(consumer="probe").values_list("pk", flat=True)
    sequence: dict[str, Any] = {"partition": PARTITION, "key": "a", "upto": dropped}
    assert parking.drop(consumer, **sequence, reason="a test", by="ada") == [dropped]
    if not parked_itself:
        probe.fail = lambda _: None
    record("a", 2, type=f"{shop.label}.thing.erased.v1")
    record("a", 3)
    relay.drain()
    reader.step()
    if parked_itself:
        assert rows.filter(dropped_at=None, consumer="probe").count() == 2
        probe.fail = lambda _: None
        assert parking.retry(consumer, partition=PARTITION, key="a").applied == 2
    assert probe.applied == [("a", 2), ("a", 3)]
    assert not rows.exists()


def test_a_parked_event_keeps_its_error_its_traceback_and_its_envelope(
    shop, relay, record, reader, probe
):
    probe.fail = lambda _: ValueError("the reason")
    recorded = record("a", 1)
    relay.drain()
    reader.step()
    row = shop.parked._default_manager.get()
    assert row.error == "ValueError: the reason"
    assert "Traceback" in row.traceback
    assert row.body == recorded.encode()
    assert (row.type, row.attempts) == (recorded.type, TRIES)


def test_a_handler_that_succeeds_at_the_last_try_parks_nothing(shop, relay, record, reader, probe):
    failures = iter([ValueError("once"), ValueError("twice")])
    probe.fail = lambda _: next(failures, None)
    publish(relay, record, ("a", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("a", 1)], [])


def test_a_reader_survives_an_hour_of_failed_steps(relay, record, reader_of, probe, monkeypatch):
    reader = reader_of(probe)
    step, waits = reader.step, []
    failures = iter([StreamsUnavailable("the stream server doesn't answer")] * 1100)

    def fail_first(**options: Any) -> int:
        if error := next(failures, None):
            raise error
        return step(**options)

    monkeypatch.setattr(reader, "step", fail_first)
    monkeypatch.setattr(reader._stopping, "wait", waits.append)
    publish(relay, record, ("a", 1))
    run_until(1, reader, probe)
    assert probe.applied == [("a", 1)]
    assert waits[0] < 0.2
    pauses = waits[20:1100]
    assert LONGEST_PAUSE_SECONDS / 2 <= min(pauses) <= max(pauses) <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("error", [SystemExit(2), CancelledError()], ids=repr)
def test_an_event_whose_handler_exits_is_parked(shop, relay, record, reader, probe, error):
    probe.fail = lambda envelope: error if envelope.partitionkey == "a" else None
    publish(relay, record, ("a", 1), ("b", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("b", 1)], [("a", 1, True)])
    assert repr(error) in shop.parked._default_manager.get().error


def test_a_deferred_constraint_fails_at_its_event_not_at_commit(
    shop, relay, record, reader_of, monkeypatch
):
    table = "probe_deferred"
    execute_as_owner(
        shop.alias,
        f"CREATE TABLE {table} (n int PRIMARY KEY, "
        f"parent int REFERENCES {table} DEFERRABLE INITIALLY DEFERRED)",
    )

    def insert(envelope: Any) -> None:
        orphan = 99 if envelope.partitionkey == "a" else None
        with connections[shop.alias].cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} SELECT coalesce(max(n), 0) + 1, %s FROM {table}",  # noqa: S608
                [orphan],
            )

    reader = reader_of(insert)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    try:
        publish(relay, record, ("a", 1), ("b", 1))
        reader.step()
        assert parked(shop) == [("a", 1, True)]
        assert IntegrityError.__name__ in shop.parked._default_manager.get().error
    finally:
        execute_as_owner(shop.alias, f"DROP TABLE {table}")


def test_a_type_that_the_streams_owner_does_not_produce_is_parked_and_never_applied(
    shop, streams, relay, record, probe
):
    forged = "elsewhere.thing.changed.v1"
    consumer = consumer_of(shop, probe)
    consumer = Consumer(
        label=shop.label, name="probe", handlers={**consumer.handlers, forged: probe}
    )
    reader = Reader(consumer, shop.label, streams, stopping=threading.Event())
    partition, body = recorder.row_of(event(shop, "a", 1, type=forged))
    shop.rows(shop.event).create(partition=partition, body=body)
    publish(relay, record, ("a", 2))
    reader.step()
    assert probe.applied == [("a", 2)]  # it holds back no later event
    row = shop.parked._default_manager.get()
    assert (row.key, row.error.partition(":")[0]) == ("", "MalformedEnvelope")
    assert f"{shop.label} has no events of type {forged}" in row.error
    parking = Parking(shop, consumer="probe", producer=shop.label)
    retried = parking.retry(consumer, partition=row.partition, key="")
    assert (retried.applied, probe.applied) == (0, [("a", 2)])


def test_an_unknown_type_or_version_is_parked(shop, relay, record, reader):
    types = {"a": "thing.changed.v2", "b": "thing.changed.v10", "c": "thing.exploded.v1"}
    for key, type_ in types.items():
        record(key, 1, type=f"{shop.label}.{type_}")
    relay.drain()
    reader.step()
    errors = dict(shop.parked._default_manager.values_list("key", "error"))
    assert errors.keys() == types.keys()
    assert all(type_ in errors[key] for key, type_ in types.items())


def test_a_malformed_entry_is_parked_and_others_are_applied(
    shop, relay, record, reader, probe, valkey
):
    publish(relay, record, ("a", 1))
    malformed = ({"event": b"not json \xff\x00"}, {"other": "field"})
    with redis.Redis.from_url(valkey.url) as server:
        for partition in range(16):
            for fields in malformed:
                server.xadd(f"{{{shop.label}}}:events:{partition}", fields)
    publish(relay, record, *[(f"key-{n}", 1) for n in range(60)])
    reader.step()
    reader.step()
    assert len(probe.applied) == 61
    assert all(key == "" for key, _, _ in parked(shop))
    assert len(parked(shop)) >= len(malformed)


def test_a_retry_applies_a_parked_sequence_in_order_and_deletes_it(
    shop, relay, record, reader, probe
):
    probe.fail = lambda envelope: ValueError("no") if envelope.partitionkey == "a" else None
    publish(relay, record, ("a", 1), ("a", 2), ("a", 3))
    reader.step()
    probe.fail = lambda _: None
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    assert (sequence.key, sequence.events, sequence.error) == ("a", 3, "ValueError: no")
    done = found.retry(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert (done.applied, done.error) == (3, "")
    assert probe.applied == [("a", 1), ("a", 2), ("a", 3)]
    assert parked(shop) == []
    publish(relay, record, ("a", 4))
    reader.step()
    assert probe.applied[-1] == ("a", 4)


def test_a_retry_stops_at_the_first_event_that_still_fails(shop, relay, record, reader, probe):
    probe.fail = lambda _: ValueError("no")
    publish(relay, record, ("a", 1), ("a", 2), ("a", 3))
    reader.step()
    probe.fail = lambda envelope: ValueError("not yet") if envelope.sequence == 2 else None
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    done = found.retry(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert (done.applied, done.error) == (1, "ValueError: not yet")
    assert probe.applied == [("a", 1)]
    assert parked(shop) == [("a", 1, True), ("a", 2, False)]


def test_events_that_arrive_during_a_retry_keep_their_order(
    shop, streams, relay, record, reader, reader_of, probe
):
    probe.fail = lambda _: ValueError("no")
    publish(relay, record, ("a", 1), ("a", 2))
    reader.step()
    probe.fail = lambda _: None
    delivering: list[threading.Thread] = []

    def deliver_the_third() -> None:
        record("a", 3)
        with own_connection(shop) as connection:
            Relay(shop, streams, connection).drain()
        reader_of(probe).step()  # waits for the partition's lock, which the retry holds
        connections.close_all()

    def handle(envelope: Any) -> None:
        if not delivering:
            delivering.append(threading.Thread(target=deliver_the_third))
            delivering[0].start()
        probe(envelope)

    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    found.retry(consumer_of(shop, handle), partition=sequence.partition, key="a")
    delivering[0].join(10)
    found.retry(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert probe.applied == [("a", 1), ("a", 2), ("a", 3)]
    assert parked(shop) == []


def test_a_consumer_applies_an_event_that_another_parks(
    shop, streams, relay, record, reader_of, probe
):
    probe.fail = lambda _: ValueError("no")
    refusing = reader_of(probe)
    refusing._pause = lambda _: None
    publish(relay, record, ("a", 1))
    refusing.step()
    taking = Probe(shop, "taking")
    second = Consumer(label=shop.label, name="second", handlers={event(shop).type: taking})
    Reader(second, shop.label, streams, stopping=threading.Event()).step()
    assert (probe.applied, taking.applied) == ([], [("a", 1)])


def test_effects_lost_in_a_failover_are_applied_again_in_order(shop, relay, record, reader, probe):
    publish(relay, record, ("a", 1))
    reader.step()
    promote = standby_of(shop)
    publish(relay, record, ("a", 2), ("a", 3))
    reader.step()
    promote()
    publish(relay, record, ("a", 4))
    run_until(4, reader, probe)
    assert probe.applied == [("a", sequence) for sequence in range(1, 5)]


def test_effects_lost_between_two_single_events_are_applied_again(
    shop, relay, record, reader, probe, monkeypatch
):
    publish(relay, record, ("a", 1))
    reader.step()
    promote = standby_of(shop)
    faults = {3: ValueError("fails the batch"), 4: OperationalError("gone")}
    probe.fail = lambda envelope: faults.pop(envelope.sequence, None)
    monkeypatch.setattr(reader, "_pause", lambda _: promote())
    publish(relay, record, ("a", 2), ("a", 3), ("a", 4))
    run_until(4, reader, probe)
    assert probe.applied == [("a", sequence) for sequence in range(1, 5)]


def test_an_idle_reader_confirms_only_the_positions_in_its_table(
    shop, streams, relay, record, reader, probe
):
    publish(relay, record, ("a", 1))
    reader.step()
    promote = standby_of(shop)
    publish(relay, record, ("a", 2))
    reader.step()
    reader.confirm()
    promote()
    reader.confirm()
    (confirmed,) = streams.confirmations(shop.label).values()
    assert confirmed.ticks[PARTITION] < streams.cursor(shop.label).complete
    reader.step()
    assert probe.applied == [("a", 1), ("a", 2)]


def catch_in_a_block(shop: Any) -> None:
    with suppress(ValueError), transaction.atomic(using=shop.alias, savepoint=False):
        raise ValueError("refused")


def catch_a_statement(shop: Any) -> None:
    with suppress(DatabaseError), connections[shop.alias].cursor() as cursor:
        cursor.execute("SELECT 1 / 0")


@pytest.mark.parametrize("catch", [catch_in_a_block, catch_a_statement])
def test_an_event_whose_handler_hides_a_database_error_is_parked(
    shop, relay, record, reader_of, probe, monkeypatch, catch
):
    def handle(envelope: Any) -> None:
        probe(envelope)
        if envelope.partitionkey == "a":
            catch(shop)

    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    publish(relay, record, ("b", 1), ("a", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("b", 1)], [("a", 1, True)])


NUL, LONE_SURROGATE = "\0", "\ud800"


def test_an_unstorable_text_is_parked_and_others_are_applied(
    shop, streams, relay, record, reader_of, probe, monkeypatch
):
    def handle(envelope: Any) -> None:
        probe(envelope)
        shop.state._default_manager.create(name=f"of {envelope.id}", value=envelope.data["text"])

    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", _limited)
    sound = json.loads(event(shop, "a", 1, data={"text": "sound"}).encode())
    bodies = []
    for where in ("partitionkey", "type", "subject", "data"):
        for poison in (NUL, LONE_SURROGATE):
            field = {"text": poison} if where == "data" else f"key-{poison}"
            bodies.append(sound | {"partitionkey": f"key {len(bodies)}"} | {where: field})
    bodies.append(sound | {"partitionkey": "b"})
    rows = [(row, PARTITION, json.dumps(body)) for row, body in enumerate(bodies, start=1)]
    streams.publish(shop.label, expected="", at=f"5-{len(rows)}", tick=5, rows=rows)
    reader.step()
    assert probe.applied == [("b", 1)]
    assert [has_error for _, _, has_error in parked(shop)] == [True] * 8


def test_an_unstorable_error_message_is_parked_with_its_event(
    shop, relay, record, reader, probe, monkeypatch
):
    monkeypatch.setattr(reader, "_pause", _limited)
    poisons = {"a": NUL, "b": LONE_SURROGATE}
    probe.fail = lambda event: ValueError(f"the text {poisons[event.partitionkey]} is refused")
    publish(relay, record, ("a", 1), ("b", 1))
    reader.step()
    errors = dict(shop.parked._default_manager.values_list("key", "error"))
    assert errors.keys() == poisons.keys()
    assert all("is refused" in error for error in errors.values())


def _limited(attempt: int) -> None:
    assert attempt <= TRIES, "the reader retries without an end"


def test_a_reader_waits_after_an_entry_beyond_the_cursor(
    shop, relay, record, reader, monkeypatch, valkey
):
    publish(relay, record, ("a", 1))
    reader.step()
    with redis.Redis.from_url(valkey.url) as server:
        server.xadd(f"{{{shop.label}}}:events:{PARTITION}", {"event": "foreign"})
    waits: list[float] = []
    monkeypatch.setattr(reader._stopping, "wait", waits.append)
    assert reader.step(block_seconds=0.5) == 0
    assert waits == [0.5]


@pytest.fixture
def wait_without_a_call(shop, settings, elsewhere) -> Callable[[], None]:
    """Returns a function that makes no database call until PostgreSQL has ended the session."""
    settings.OUTBOX_HANDLER_IDLE_SECONDS = 2  # long enough for the reader's own statements

    def has_ended(pid: int) -> bool:
        elsewhere.rollback()  # a transaction sees one state of the sessions
        with elsewhere.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid])
            return cursor.fetchone() == (0,)

    def wait() -> None:
        with connections[shop.alias].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        eventually(lambda: has_ended(pid), within_seconds=10, what="the session ends")

    return wait


@pytest.mark.parametrize("wraps_the_error", [False, True])
def test_a_handler_that_makes_no_database_call_for_too_long_is_parked(
    shop, relay, record, reader_of, monkeypatch, wait_without_a_call, wraps_the_error
):
    def handle(_: Envelope) -> None:
        wait_without_a_call()
        if wraps_the_error:
            try:
                shop.state._default_manager.exists()
            except DatabaseError as exc:
                raise LookupError("there is no state") from exc

    monkeypatch.setattr(reading, "TRIES", 1)
    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", _limited)
    publish(relay, record, ("a", 1))
    reader.step()
    assert "made no database call for" in shop.parked._default_manager.get().error


def test_a_commit_that_takes_long_is_not_the_fault_of_its_handler(
    shop, relay, record, reader, probe, monkeypatch
):
    connection, now = connections[shop.alias], [0.0]
    commit, handled, failed = connection._commit, [], []

    def commit_late() -> None:
        """Fail after a long time, for the whole batch and then for the single event."""
        if handled and len(failed) < 2:
            failed.append(handled.pop())
            now[0] += 100.0
            raise OperationalError("the connection was lost")
        commit()

    monkeypatch.setattr(reading, "TRIES", 1)
    monkeypatch.setattr(idleness, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(connection, "_commit", commit_late)
    probe.fail = handled.append
    publish(relay, record, ("a", 1))
    reader.step()
    assert (len(failed), probe.applied, parked(shop)) == (2, [("a", 1)], [])


def test_a_handler_that_waits_long_for_an_unavailable_server_is_tried_again(
    shop, relay, record, reader, probe, monkeypatch, wait_without_a_call
):
    monkeypatch.setattr(reading, "TRIES", 1)
    failures = iter([StreamsUnavailable("no answer")] * 2)

    def wait_and_fail(_: Any) -> Exception | None:
        if error := next(failures, None):
            wait_without_a_call()
        return error

    probe.fail = wait_and_fail
    publish(relay, record, ("a", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("a", 1)], [])


def test_a_key_of_another_type_stops_relay_and_reader_until_it_is_deleted(
    shop, relay, record, reader, probe, valkey
):
    publish(relay, record, ("a", 1))
    reader.step()
    key = f"{{{shop.label}}}:events:{PARTITION}"
    with redis.Redis.from_url(valkey.url) as server:
        server.delete(key)
        server.set(key, "something else")
        record("a", 2)
        for use in (relay.drain, reader.step):
            with pytest.raises(StreamsMisconfigured, match=re.escape(key)):
                use()
        server.delete(key)
    relay.drain()
    reader.step()
    assert probe.applied == [("a", 1), ("a", 2)]


def test_a_reopened_session_also_ends_when_its_process_freezes(
    shop, relay, record, reader_of, monkeypatch, settings
):
    settings.OUTBOX_HANDLER_IDLE_SECONDS = 7
    limits: list[str] = []

    def handle(envelope: Any) -> None:
        with connections[shop.alias].cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            limits.append(cursor.fetchone()[0])
            if len(limits) == 1:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    reader = reader_of(handle)
    monkeypatch.setattr(reader, "_pause", lambda _: None)
    publish(relay, record, ("a", 1))
    reader.step()
    assert limits == ["7s"] * 2
