"""Relays and consumes in the test's own thread, with the relay and the readers of production."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from .. import consumer as consumers
from .. import recorder, streams, tables
from ..envelope import Envelope
from ..errors import Unconfigured
from ..partitions import partition_count
from ..publishing.relay import Relay, own_connection
from ..streams import order
from ..streams.client import MEMORY, nudger
from ..streams.memory import MemoryStreams
from ..tables import Tables
from .reader import ReaderInTest
from .uncommitted import Uncommitted

MOST_ROUNDS = 100  # a handler's event is delivered in the next round


def deliver(envelope: Envelope, *, consumer: str) -> None:
    """Apply one event with the handlers of this consumer. Uses neither a reader nor a stream.
    Raises the handler's error."""
    consumers.named(consumer).handle(Envelope.decode(envelope.encode()))


def deliver_all() -> None:
    """Deliver all recorded events of all installed services to their consumers, and then the events
    that the handlers have recorded, until nothing waits.

    Each consumer gets each event once, in the order of the rows, also over several calls. Batches,
    positions, savepoints and parking are those of production, but nothing waits or pauses.

    In a TestCase (`django_db`), the events of the test's own transaction are delivered in it, and
    its rollback undoes everything. Otherwise, as in a TransactionTestCase
    (`django_db(transaction=True)`), the relay publishes committed events to the streams in memory,
    which the setting OUTBOX_STREAMS_URL = "memory://" gives.

    Raises AssertionError with the handler's error as its cause if an event is parked, and also if
    a handler's error stays transient or if handlers record events for more than MOST_ROUNDS rounds.
    Raises TransactionManagementError inside a test's own `atomic()`: its events may never commit.
    """
    services = list(tables.every())
    server, publish = _in_test_case(services) or _committed(services)
    readers = [
        ReaderInTest(consumer, producer, server)
        for consumer in consumers.every()
        for producer in consumer.producers
        if producer in {found.label for found in services}
    ]
    for _ in range(MOST_ROUNDS):
        publish()
        # Not a generator in any(): each reader takes its turn, as the threads do in production.
        if not sum([reader.read_all() for reader in readers if server.entries(reader.producer)]):
            return
    raise AssertionError(
        f"after {MOST_ROUNDS} rounds, handlers still record events; the last: "
        + ", ".join(type_ for found in services for type_ in _last_types(found))
    )


def reset() -> None:
    """Empty the streams in memory and forget this context's `last_write`, for a test that begins
    with an empty database. `deliver_all` needs no reset: it drops streams of another database."""
    nudger.close()
    recorder.last_write.set(MappingProxyType({}))
    server: Any = streams.connect()
    if isinstance(server, MemoryStreams):
        server.flush()


def _in_test_case(services: Sequence[Tables]) -> tuple[Any, Callable[[], None]] | None:
    """Streams of this call, and a function that adds the rows of the test's transaction. None
    outside a TestCase."""
    for found in services:
        _refuse_open_block(found.connection, found.alias)
    if not any(found.connection.in_atomic_block for found in services):
        return None
    server = MemoryStreams(partitions=partition_count())
    added = [Uncommitted(found, server) for found in services]

    def publish() -> None:
        for each in added:
            each.publish()

    return server, publish


def _refuse_open_block(connection: BaseDatabaseWrapper, alias: str) -> None:
    blocks: Sequence[Any] = connection.atomic_blocks
    if not all(getattr(block, "_from_testcase", False) for block in blocks):
        raise TransactionManagementError(
            f"deliver_all() was called inside atomic(using={alias!r}): the events of this block "
            "aren't committed; call it after the block"
        )


def _committed(services: Sequence[Tables]) -> tuple[Any, Callable[[], None]]:
    """The streams in memory of this process, and a function that lets each service's relay publish
    to them. Raises Unconfigured if the setting has another address."""
    server: Any = streams.connect()
    if not isinstance(server, MemoryStreams):
        raise Unconfigured(
            f'deliver_all() publishes only to memory; set OUTBOX_STREAMS_URL = "{MEMORY}" in the '
            "settings of the tests"
        )
    if any(_is_from_another_database(server, found) for found in services):
        server.flush()

    def publish() -> None:
        for found in services:
            with own_connection(found) as connection:
                Relay(found, streams.connect(), connection).drain()

    return server, publish


def _is_from_another_database(server: MemoryStreams, found: Tables) -> bool:
    """Whether the database was flushed since the streams were written: after each test."""
    at = server.cursor(found.label).at
    return bool(at) and not found.rows(found.tick).filter(pk=order(at)[0]).exists()


def _last_types(found: Tables) -> list[str]:
    bodies = found.rows(found.event).order_by("-id").values_list("body", flat=True)[:3]
    return [Envelope.decode(body).type for body in bodies]
