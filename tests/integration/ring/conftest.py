import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from placement.ring import nodes as ring_nodes
from placement.ring import process as ring_process
from placement.ring.cache import RingCache
from placement.ring.process import Ring
from stack.servers import Valkey
from tests.support import surroundings
from tests.support.servers import own_ring

NODES = 3
LONG_SECONDS = 3_600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "reads" in getattr(item, "fixturenames", ()) and item.config.getoption("--full"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))


class Servers:
    """A private store with its nodes, and the faults that a test can cause."""

    def __init__(self, store: Valkey, spare: list[Valkey]) -> None:
        self.store = store
        self.all = spare
        self.nodes = spare[:NODES]
        self.frozen: set[int] = set()

    def freeze(self, server: Valkey) -> None:
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        self.frozen.add(server.pid)

    def thaw(self) -> None:
        for pid in self.frozen:
            os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def named(self, name: str) -> Valkey:
        return next(node for node in self.all if f":{node.port}/" in name)

    def cache(self, nodes: int = NODES, **params: Any) -> RingCache:
        """A cache as in another process: it shares only the servers with the other caches."""
        ring_process.rings.clear()
        params.setdefault("OPTIONS", {})["STORE"] = self.store.url
        return RingCache([node.url for node in self.all[:nodes]], params)


@pytest.fixture(autouse=True)
def _patient_with_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new cache has no view until the store answers, and a busy machine may delay the answer."""
    monkeypatch.setattr(ring_nodes, "STORE_TIMEOUT_SECONDS", 5.0)


@pytest.fixture
def impatient_with_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which the store hangs: the timeout is that of a real service."""
    monkeypatch.setattr(ring_nodes, "STORE_TIMEOUT_SECONDS", 0.05)


@pytest.fixture(scope="session")
def _servers() -> Iterator[Servers]:
    with own_ring(surroundings.ROOT, nodes=NODES + 1) as (store, nodes):
        yield Servers(store, nodes)


@pytest.fixture
def servers(_servers: Servers) -> Iterator[Servers]:
    """Three empty nodes, an empty spare node and an empty store."""
    for server in (_servers.store, *_servers.all):
        server.start()
        server.flush()
    yield _servers
    _servers.thaw()
    ring_process.rings.clear()


@pytest.fixture
def cache(servers: Servers) -> RingCache:
    return servers.cache()


@pytest.fixture
def ring(cache: RingCache) -> Ring:
    return cache.ring
