import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import ways
from lab.users import Users
from outbox import consumer, tables
from outbox.agreeing import awaiting
from outbox.consuming.reader import Reader
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from placement.ring import process as ring_process
from stack.servers import Valkey
from tests.support import surroundings
from tests.support.servers import own_ring

EVERY = [(way, variant) for way in ways.WAYS for variant in ways.variants(way)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One worker runs all these tests, so that the ring's servers are started only once.
    for item in items:
        if "integration/lab" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("lab"))


@pytest.fixture(scope="session")
def _ring() -> Iterator[Any]:
    with own_ring(surroundings.ROOT, nodes=3) as servers:
        yield servers


@pytest.fixture
def nodes(_ring: Any, settings: Any, patient_ring: None) -> Iterator[list[Valkey]]:
    """Three empty nodes, which all rings of the lab use."""
    store, servers = _ring
    for server in (store, *servers):
        server.start()
        server.flush()
    urls = [server.url for server in servers]
    settings.CACHES = {
        alias: {
            **config,
            "LOCATION": urls[:1] if alias == "lab-node" else urls,
            "OPTIONS": {**config.get("OPTIONS", {}), "STORE": store.url},
        }
        if alias.startswith("lab-")
        else config
        for alias, config in settings.CACHES.items()
    }
    ring_process.rings.clear()
    yield servers
    ring_process.rings.clear()


@pytest.fixture
def settle(streams: Streams) -> Callable[[Users], None]:
    """Return a function that publishes the lab's events and applies them to what `users` reads."""

    def run(users: Users) -> None:
        if users.projection is None:
            return
        with own_connection(tables.of("lab")) as connection:
            Relay(tables.of("lab"), streams, connection).drain()
        found = consumer.named(users.projection)
        reader = Reader(found, "lab", streams, stopping=threading.Event())
        while awaiting.lag_seconds(found, "lab", using=found.tables.alias) != 0:
            reader.step()

    return run


@pytest.fixture(params=EVERY, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def users(request: pytest.FixtureRequest, nodes: list[Valkey]) -> Users:
    """The users, in each variant of each way."""
    return ways.open(*request.param)
