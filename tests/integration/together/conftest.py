"""Both services in one process, with relays and consumers in background threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from outbox import consumer as consuming
from outbox import tables
from outbox.agreeing import coverage
from outbox.consuming.reader import Reader
from outbox.publishing import relay
from outbox.streams import Streams
from tests.support.meanwhile import meanwhile
from tests.support.surroundings import SERVICES

# Models of a service that isn't installed can't even be imported.
collect_ignore_glob = [] if len(SERVICES) > 1 else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


class Flow:
    """Runs relays and chosen consumers, each in its own thread."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    @contextmanager
    def running(self, *names: str, labels: tuple[str, ...] = SERVICES) -> Iterator[None]:
        stopping = threading.Event()
        readers = [
            Reader(consumer, producer, self._streams, stopping=stopping)
            for consumer in map(consuming.named, names)
            for producer in consumer.producers
        ]
        works: list[Callable[[], Any]] = [reader.run for reader in readers]
        works += [
            lambda label=label: relay.run(tables.of(label), self._streams, stopping=stopping)
            for label in labels
        ]

        def end() -> None:
            stopping.set()
            for label in labels:
                self._streams.nudge(label)

        with meanwhile(*(partial(_closing, work) for work in works), end=end):
            yield


def _closing(work: Callable[[], Any]) -> None:
    try:
        work()
    finally:
        connections.close_all()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`reconcile.catch_up` fails at its second check of the consumer, even if the relay is slow.

    A time limit would include the relay's time: on a busy machine, the error would name the relay.
    """
    from orders import reconcile

    checks: list[bool] = []
    has_applied, paced = coverage.has_applied, reconcile.paced

    def check(*about: Any) -> bool:
        checks.append(has_applied(*about))
        return checks[-1]

    def until_checked_twice(*, every_seconds: float, within_seconds: float) -> Iterator[None]:
        for _ in paced(every_seconds=every_seconds, within_seconds=within_seconds):
            if len(checks) >= 2:
                return
            yield

    monkeypatch.setattr(coverage, "has_applied", check)
    monkeypatch.setattr(reconcile, "paced", until_checked_twice)


@pytest.fixture
def flow(streams: Streams) -> Flow:
    return Flow(streams)
