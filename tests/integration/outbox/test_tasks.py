"""The relay as Celery runs it, many times where one is enough."""

import threading
from typing import Any

import pytest
from django.db import connections

from outbox import tasks
from outbox.publishing import relay as relaying
from tests.support.waiting import eventually


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[relaying.Ended]:
    """How each that asked the database ended."""
    ended: list[relaying.Ended] = []
    run = relaying.run

    def noted(*arguments: Any, **options: Any) -> relaying.Ended:
        ended.append(run(*arguments, **options))
        return ended[-1]

    monkeypatch.setattr(relaying, "run", noted)
    monkeypatch.setattr(tasks, "_stopping", threading.Event())
    monkeypatch.setattr(tasks, "_until", {})
    monkeypatch.setattr(tasks, "_waking", set())
    return ended


def test_where_one_runs_another_of_the_process_asks_nobody(shop, streams, record, begun):
    def work() -> None:
        tasks.relay(shop.label)
        connections.close_all()

    working = threading.Thread(target=work)
    working.start()
    try:
        record()
        eventually(lambda: streams.cursor(shop.label).at, within_seconds=10, what="the event sent")
        tasks.relay(shop.label)
        assert begun == []
        tasks._until[shop.label] = 0.0  # as if it hung for longer than it may linger
        tasks.relay(shop.label)
        assert begun == [relaying.Ended.TAKEN]
    finally:
        tasks._stop()
        working.join(10)
    assert begun[1:] == [relaying.Ended.STOPPED]


def test_one_that_fails_keeps_no_other_out(shop, streams, begun, record, caplog):
    streams.publish(shop.label, expected="", at="777-1", tick=777)  # of no database here
    record()
    for _ in range(2):
        tasks.relay(shop.label)
    assert caplog.text.count(f"the relay of {shop.label} stopped") == 2
