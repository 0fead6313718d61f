"""Effects and positions move together, once, in order; what can't be applied is parked."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db import IntegrityError, OperationalError, connections, transaction

from outbox.consumer import Consumer
from outbox.errors import Fenced
from outbox.inbox import Inbox
from outbox.parking import Parking
from outbox.partitions import partition_of
from outbox.reader import TRIES, Reader
from outbox.relay import Relay, own_connection

from .conftest import consumer_of, event


class Probe:
    """A handler whose effects are rows, in order; it fails where it is told to."""

    def __init__(self, shop: Any, name: str = "probe") -> None:
        self._effects = shop.state._default_manager.using(shop.alias)
        self._name = name
        self.fail: Callable[[Any], Exception | None] = lambda _: None

    def __call__(self, envelope: Any) -> None:
        if error := self.fail(envelope):
            raise error
        number = self._effects.count()
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


def parked(shop: Any) -> list[tuple[str, int, bool]]:
    """(key, row of the entry in its order, whether it carries an error)"""
    rows = shop.parked._default_manager.order_by("id")
    return [(row.key, number, bool(row.error)) for number, row in enumerate(rows, start=1)]


def test_events_are_applied_once_and_in_the_order_of_their_commits(relay, record, reader, probe):
    publish(relay, record, ("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2))
    assert reader.step() == 5
    assert reader.step() == 0
    assert probe.applied == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2)]


def test_a_new_process_goes_on_where_the_last_one_committed(relay, record, reader_of, probe):
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
    reader._stopping.set()  # so that it gives up at once
    reader.step()
    assert positions(shop)[partition_of("a", partitions=16)] == "0-0"
    reader._stopping.clear()
    probe.fail = lambda _: None
    reader.step()
    assert probe.applied == [("a", 1)]


def test_a_zombie_that_read_before_another_applied_changes_nothing(
    relay, record, reader_of, probe, monkeypatch
):
    zombie, other = reader_of(probe), reader_of(probe)
    monkeypatch.setattr(zombie, "_pause", lambda _: None)
    zombie.step()  # knows the positions of now
    publish(relay, record, ("a", 1))
    other.step()
    zombie.step()
    publish(relay, record, ("a", 2))
    zombie.step()
    assert probe.applied == [("a", 1), ("a", 2)]


def test_a_position_moves_only_from_where_it_is(shop):
    inbox = Inbox(shop, consumer="probe", producer=shop.label)
    inbox.open([0, 1])
    with transaction.atomic(using=shop.alias):
        inbox.move({0: ("0-0", "5-1"), 1: ("0-0", "5-2")})
    with pytest.raises(Fenced), transaction.atomic(using=shop.alias):
        inbox.move({0: ("5-1", "6-1"), 1: ("0-0", "6-2")})
    assert inbox.stored() == {0: "5-1", 1: "5-2"}


def test_a_failing_event_parks_its_key_in_order_and_others_flow(shop, relay, record, reader, probe):
    probe.fail = lambda envelope: ValueError("no") if envelope.partitionkey == "a" else None
    publish(relay, record, ("a", 1), ("b", 1), ("a", 2))
    reader.step()
    publish(relay, record, ("a", 3), ("b", 2))
    reader.step()
    assert probe.applied == [("b", 1), ("b", 2)]
    assert parked(shop) == [("a", 1, True), ("a", 2, False), ("a", 3, False)]


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


def test_a_failure_that_passes_parks_nothing(shop, relay, record, reader, probe):
    failures = iter([ValueError("once"), ValueError("twice")])
    probe.fail = lambda _: next(failures, None)
    publish(relay, record, ("a", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("a", 1)], [])


def test_transient_faults_are_tried_until_they_pass_and_park_nothing(
    shop, relay, record, reader, probe
):
    failures = iter([OperationalError("the server starts")] * (TRIES * 3))
    probe.fail = lambda _: next(failures, None)
    publish(relay, record, ("a", 1))
    reader.step()
    assert (probe.applied, parked(shop)) == ([("a", 1)], [])


def test_a_deferred_constraint_fails_at_its_event_not_at_commit(
    shop, relay, record, reader_of, monkeypatch
):
    table = "probe_deferred"
    with connections[shop.alias].cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (n int PRIMARY KEY, parent int)")
        cursor.execute(
            f"ALTER TABLE {table} ADD FOREIGN KEY (parent) REFERENCES {table} "
            "DEFERRABLE INITIALLY DEFERRED"
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
        with connections[shop.alias].cursor() as cursor:
            cursor.execute(f"DROP TABLE {table}")


@pytest.mark.parametrize("version", ["v2", "v10"])
def test_a_newer_version_of_a_type_is_parked_not_passed_over(shop, relay, record, reader, version):
    record("a", 1, type=f"{shop.label}.thing.changed.{version}")
    relay.drain()
    reader.step()
    assert parked(shop) == [("a", 1, True)]
    assert version in shop.parked._default_manager.get().error


def test_an_unknown_type_is_parked(shop, relay, record, reader):
    record("a", 1, type=f"{shop.label}.thing.exploded.v1")
    relay.drain()
    reader.step()
    assert "exploded" in shop.parked._default_manager.get().error


@pytest.mark.parametrize("fields", [{"event": b"not json \xff\x00"}, {"other": "field"}])
def test_an_entry_that_is_no_event_is_parked_alone_and_the_rest_flows(
    shop, relay, record, reader, probe, valkey, fields
):
    publish(relay, record, ("a", 1))
    with redis.Redis.from_url(valkey.url) as server:
        for partition in range(16):
            server.xadd(f"{{{shop.label}}}:events:{partition}", fields)
    publish(relay, record, *[(f"key-{n}", 1) for n in range(60)])
    reader.step()
    reader.step()
    assert len(probe.applied) == 61
    assert all(key == "" for key, _, _ in parked(shop))
    assert len(parked(shop)) >= 1


def test_a_replay_applies_the_sequence_in_order_and_empties_it(shop, relay, record, reader, probe):
    probe.fail = lambda envelope: ValueError("no") if envelope.partitionkey == "a" else None
    publish(relay, record, ("a", 1), ("a", 2), ("a", 3))
    reader.step()
    probe.fail = lambda _: None
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    assert (sequence.key, sequence.events, sequence.error) == ("a", 3, "ValueError: no")
    done = found.replay(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert (done.applied, done.error) == (3, "")
    assert probe.applied == [("a", 1), ("a", 2), ("a", 3)]
    assert parked(shop) == []
    publish(relay, record, ("a", 4))
    reader.step()
    assert probe.applied[-1] == ("a", 4)


def test_a_replay_stops_at_the_first_that_still_fails(shop, relay, record, reader, probe):
    probe.fail = lambda _: ValueError("no")
    publish(relay, record, ("a", 1), ("a", 2), ("a", 3))
    reader.step()
    probe.fail = lambda envelope: ValueError("not yet") if envelope.sequence == 2 else None
    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    done = found.replay(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert (done.applied, done.error) == (1, "ValueError: not yet")
    assert probe.applied == [("a", 1)]
    assert parked(shop) == [("a", 1, True), ("a", 2, False)]


def test_events_that_arrive_during_a_replay_keep_their_place(
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
        reader_of(probe).step()  # waits for the partition that the replay holds
        connections.close_all()

    def handle(envelope: Any) -> None:
        if not delivering:
            delivering.append(threading.Thread(target=deliver_the_third))
            delivering[0].start()
        probe(envelope)

    found = Parking(shop, consumer="probe", producer=shop.label)
    (sequence,) = found.sequences()
    found.replay(consumer_of(shop, handle), partition=sequence.partition, key="a")
    delivering[0].join(10)
    found.replay(consumer_of(shop, probe), partition=sequence.partition, key="a")
    assert probe.applied == [("a", 1), ("a", 2), ("a", 3)]
    assert parked(shop) == []


def test_what_one_consumer_parks_another_applies(shop, streams, relay, record, reader_of, probe):
    probe.fail = lambda _: ValueError("no")
    refusing = reader_of(probe)
    refusing._pause = lambda _: None
    publish(relay, record, ("a", 1))
    refusing.step()
    taking = Probe(shop, "taking")
    second = Consumer(label=shop.label, name="second", handlers={event(shop).type: taking})
    Reader(second, shop.label, streams, stopping=threading.Event()).step()
    assert (probe.applied, taking.applied) == ([], [("a", 1)])
