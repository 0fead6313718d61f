"""Invalid entries in the streams are parked, and all other events are still applied."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import redis

from outbox.consumer import Consumer, every
from outbox.partitions import partition_of
from tests.acceptance.people import Customer, soon
from tests.support.stacks import RunningStack

PARTITIONS = 16
PRODUCERS = ("accounts", "orders")


def readers(producer: str) -> dict[str, Consumer]:
    """Returns all consumers that read this producer's streams, by name, from all services."""
    return {found.name: found for found in every() if producer in found.producers}


def event(type_: str) -> bytes:
    """Returns an event that is valid except for its unknown type."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/" + type_.partition(".")[0],
            "type": type_,
            "subject": str(uuid4()),
            "time": datetime.now(UTC).isoformat(),
            "partitionkey": str(uuid4()),
            "sequence": 1,
            "data": {},
        }
    ).encode()


def poison(producer: str) -> list[dict[bytes, bytes]]:
    known = {"accounts": "accounts.credit.reserved", "orders": "orders.order.placed"}[producer]
    return [
        {b"event": b"\xff\x00 this is not JSON {"},
        {b"event": b'{"specversion": "1.0"}'},
        {b"event": event(f"{producer}.thing.happened.v1")},
        {b"event": event(f"{known}.v2")},
        {b"other": b"field"},
    ]


@pytest.fixture
def streams(stack: RunningStack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.status()["streams"]) as client:
        yield client


@pytest.fixture
def parking_emptied(stack: RunningStack) -> Iterator[None]:
    """Deletes the parked events after the test, because a retry can't apply invalid entries."""
    yield
    for service in ("accounts", "orders"):
        with stack.database(service) as ask:
            ask(f"DELETE FROM {service}_parkedevent")  # noqa: S608


@pytest.mark.long
def test_unknown_events_are_parked_and_every_order_is_still_decided(
    stack: RunningStack, ada: Customer, bob: Customer, streams: redis.Redis, parking_emptied: None
) -> None:
    for customer in (ada, bob):
        customer.sees("CONFIRMED", customer.place("1.00"))
    is_quiet(stack)
    poisoned = [(kind, partition_of(ada.id, partitions=PARTITIONS)) for kind in poison("accounts")]
    for fields, partition in poisoned:
        streams.xadd(key("accounts", partition), fields)
    # The reader passes the invalid entries when it reads the partition's next event.
    placed = [(ada, ada.place("0.50")), (bob, bob.place("0.50"))]
    assert all_confirmed(placed)
    expected = dict.fromkeys(readers("accounts"), len(poisoned))
    with suppress(AssertionError):
        soon(lambda: stack.parked() == expected, "all bad entries are parked", within_seconds=30)
    assert stack.parked() == expected
    per_service = [service["consumers"] for service in stack.flow().values()]
    parked = {name: found["parked"] for one in per_service for name, found in one.items()}
    assert {name: number for name, number in parked.items() if number} == expected
    assert "UnknownEventType" in stack.manage(
        "outbox", "parked", service=stack.deployment("orders")
    )
    assert [float(customer.reserved()) for customer in (ada, bob)] == [1.5, 1.5]


@pytest.mark.long
def test_invalid_entries_in_every_stream_stop_no_consumer(
    stack: RunningStack, ada: Customer, streams: redis.Redis, parking_emptied: None
) -> None:
    """A consumer parks a foreign entry, or skips it once the owner has published a later id.
    A consumer never applies a foreign entry, and parks no event of the owner."""
    is_quiet(stack)
    added = {
        producer: {
            streams.xadd(key(producer, partition), poison(producer)[0]).decode()
            for partition in range(PARTITIONS)
        }
        for producer in PRODUCERS
    }
    placed: list[tuple[Customer, dict[str, str]]] = []
    touched: set[int] = set()
    while len(touched) < PARTITIONS:
        placed.append((ada, ada.place("0.50")))
        touched.add(partition_of(placed[-1][1]["id"], partitions=PARTITIONS))
        assert len(placed) < 500, "500 ids did not reach all 16 partitions"
    assert all_confirmed(placed)
    is_quiet(stack)
    for service in ("accounts", "orders"):
        with stack.database(service) as ask:
            found = ask(f"SELECT producer, entry FROM {service}_parkedevent")  # noqa: S608
        assert [entry for producer, entry in found if entry not in added[producer]] == []
    assert float(ada.reserved()) == len(placed) / 2


def all_confirmed(placed: list[tuple[Customer, dict[str, str]]]) -> bool:
    # A consumer pauses after each attempt at a failing event.
    return all(
        customer.sees("CONFIRMED", order, within_seconds=60)["status"] == "CONFIRMED"
        for customer, order in placed
    )


@pytest.mark.long
def test_only_later_events_of_a_parked_key_are_parked_behind_it(
    stack: RunningStack, ada: Customer, bob: Customer, streams: redis.Redis, parking_emptied: None
) -> None:
    ada.sees("CONFIRMED", ada.place("1.00"))
    is_quiet(stack)
    newer = json.loads(event("accounts.user.updated.v2")) | {"partitionkey": ada.id}
    partition = partition_of(ada.id, partitions=PARTITIONS)
    streams.xadd(key("accounts", partition), {b"event": json.dumps(newer).encode()})

    behind = ada.place("2.00")
    other = bob.place("3.00")
    bob.sees("CONFIRMED", other)
    # Two parked events: the event of the newer type, and then the event of her order's reservation.
    waiting = dict.fromkeys(readers("accounts"), 2)
    soon(lambda: stack.parked() == waiting, "her reservation waits", within_seconds=30)
    assert ada.look_at(behind)["status"] == "PENDING"

    services = {consumer.label for consumer in readers("accounts").values()}
    for service in services:
        with stack.database(service) as ask:  # simulates a release that knows the newer type
            table = f"{service}_parkedevent"
            ask(f"DELETE FROM {table} WHERE type = 'accounts.user.updated.v2'")  # noqa: S608
    for deployment in {stack.deployment(service) for service in services}:
        stack.manage("outbox", "parked", "retry", ada.id, service=deployment)
    ada.sees("CONFIRMED", behind)
    assert stack.parked() == {}


def key(producer: str, partition: int) -> str:
    return f"{{{producer}}}:events:{partition}"


def is_quiet(stack: RunningStack) -> None:
    def nothing_waits() -> bool:
        return all(
            service["outbox"]["unpublished"] == 0
            and all(consumer["lag_events"] == 0 for consumer in service["consumers"].values())
            for service in stack.flow().values()
        )

    soon(nothing_waits, "all events are published and read", within_seconds=30)
