"""A consumer process ends when one of its threads ends, and another process takes over."""

import ctypes
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from outbox import consumer as consuming
from outbox.consumer import Consumer, ignore
from tests.integration.outbox.conftest import event
from tests.support.waiting import eventually

NAMES = ("one", "two")


@pytest.fixture
def consume(shop: Any, streams: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Future[None]]:
    """`manage.py outbox consume` with two consumers, in a thread of this process."""
    handlers = {event(shop).type: ignore}
    both = [Consumer(label=shop.label, name=name, handlers=handlers) for name in NAMES]
    monkeypatch.setattr(consuming, "every", lambda: iter(both))
    monkeypatch.setattr("outbox.consuming.membership.LEASE_SECONDS", 60)
    stopping = threading.Event()
    monkeypatch.setattr("outbox.management.consume.stop_on_signals", lambda: stopping)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call_command, "outbox", "consume", stdout=StringIO())
        try:
            yield running
        finally:
            stopping.set()
            running.exception(10)
            pool.submit(connections.close_all)


def test_a_process_has_no_connection_besides_those_of_its_readers(shop, streams, monkeypatch):
    one = Consumer(label=shop.label, name="one", handlers={event(shop).type: ignore})
    monkeypatch.setattr(consuming, "every", lambda: iter([one]))
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr("outbox.management.consume.stop_on_signals", lambda: stopping)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call_command, "outbox", "consume", stdout=StringIO()).result(10)
        left = pool.submit(lambda: connections[shop.alias].connection).result(10)
        pool.submit(connections.close_all).result(10)

    assert left is None


def kill(name: str) -> None:
    """End the thread with this name: SystemExit is raised at its next bytecode."""
    thread = eventually(lambda: _running(name), within_seconds=10, what=f"{name} runs")
    ident = ctypes.c_ulong(thread.ident)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit)) == 1


def _running(name: str) -> threading.Thread | None:
    """The thread with this name; None until it has started, and so has an identifier."""
    threads = (each for each in threading.enumerate() if each.name == name)
    return next((thread for thread in threads if thread.ident), None)


@pytest.mark.parametrize("killed", ["two of {}", "lease of {}.one"], ids=["reader", "lease"])
def test_a_killed_thread_ends_the_process_and_releases_its_leases(
    shop, streams, consume, caplog, killed
):
    name = killed.format(shop.label)
    kill(name)
    ended = consume.exception(10)
    assert isinstance(ended, SystemExit)
    assert ended.code == 1
    (record,) = [found for found in caplog.records if found.levelno == logging.CRITICAL]
    assert record.getMessage() == (
        f"the thread {name} has ended, so this process stops: SystemExit:"
    )
    for group in (f"{shop.label}.{name}" for name in NAMES):
        assert streams.heartbeat(group, "another", lease_seconds=60) == ["another"]
