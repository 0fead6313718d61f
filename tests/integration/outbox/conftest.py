import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import connections, transaction
from django.utils import timezone

from outbox import recorder, tables
from outbox.consumer import Consumer, Handler, ignore
from outbox.consuming.reader import Reader
from outbox.envelope import Envelope
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from outbox.tables import Tables


@pytest.fixture
def shop(transactional_db: None) -> Tables:
    """The outbox tables of one installed service; the tests work with any service."""
    return next(iter(tables.every()))


@pytest.fixture
def server(valkey: Any) -> Iterator[redis.Redis]:
    """A plain client of the stream server, to damage its keys."""
    with redis.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def record(shop: Tables) -> Callable[..., Envelope]:
    """Returns a function that commits an event of a key, as a service does."""

    def commit(key: str = "a", sequence: int = 1, **changed: Any) -> Envelope:
        envelope = event(shop, key, sequence, **changed)
        with transaction.atomic(using=shop.alias):
            recorder.record(envelope, into=shop.event)
        return envelope

    return commit


def event(shop: Tables, key: str = "a", sequence: int = 1, **changed: Any) -> Envelope:
    facts: dict[str, Any] = {
        "type": f"{shop.label}.thing.changed.v1",
        "subject": key,
        "partitionkey": key,
        "sequence": sequence,
        "data": {},
        "time": timezone.now(),
    }
    return Envelope(**facts | changed)


@pytest.fixture
def relay(shop: Tables, streams: Streams) -> Iterator[Relay]:
    with own_connection(shop) as connection:
        yield Relay(shop, streams, connection)


@pytest.fixture
def reader_of(shop: Tables, streams: Streams) -> Callable[..., Reader]:
    """Returns a function that makes a reader of the shop's events with one handler."""

    def make(handler: Handler, **options: Any) -> Reader:
        return Reader(
            consumer_of(shop, handler),
            shop.label,
            streams,
            stopping=threading.Event(),
            **options,
        )

    return make


def consumer_of(shop: Tables, handler: Handler) -> Consumer:
    """Returns a consumer that handles `changed` events and ignores `noted` events."""
    return Consumer(
        label=shop.label,
        name="probe",
        handlers={
            f"{shop.label}.thing.changed.v1": handler,
            f"{shop.label}.thing.noted.v1": ignore,
        },
    )


@pytest.fixture
def elsewhere(shop: Tables) -> Iterator[Any]:
    """A second connection to the shop's database, in its own transaction."""
    other = connections[shop.alias].copy()
    other.set_autocommit(False)
    yield other
    other.rollback()
    other.close()
