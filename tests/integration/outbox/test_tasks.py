"""The Celery task of the relay, which beat starts more often than needed."""

import threading
from typing import Any

import kombu
import pytest
import redis
from celery.beat import Scheduler
from django.conf import settings
from django.db import connections

from config.celery import app
from outbox import tasks
from outbox.pacing import Sparing
from outbox.publishing import relay as relaying
from tests.support.waiting import eventually

PREFIX = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[relaying.Outcome]:
    """Collects the result of each call of `relay.run`, which queries the database."""
    ended: list[relaying.Outcome] = []
    run = relaying.run

    def run_and_record(*arguments: Any, **options: Any) -> relaying.Outcome:
        ended.append(run(*arguments, **options))
        return ended[-1]

    monkeypatch.setattr(relaying, "run", run_and_record)
    monkeypatch.setattr(tasks, "_stopping", threading.Event())
    monkeypatch.setattr(tasks, "_running_until", {})
    monkeypatch.setattr(tasks, "_labels", set())
    return ended


def test_a_second_relay_task_of_a_process_returns_without_a_query(shop, streams, record, results):
    def work() -> None:
        tasks.relay(shop.label)
        connections.close_all()

    working = threading.Thread(target=work)
    working.start()
    try:
        record()
        eventually(lambda: streams.cursor(shop.label).at, within_seconds=10, what="the event sent")
        tasks.relay(shop.label)
        assert results == []
        tasks._running_until[shop.label] = 0.0  # as if the running task were hanging
        tasks.relay(shop.label)
        assert results == [relaying.Outcome.ALREADY_RUNNING]
    finally:
        tasks._stop()
        working.join(10)
    assert results[1:] == [relaying.Outcome.STOPPED]


def test_a_failed_relay_task_does_not_block_the_next(
    shop, streams, results, record, caplog, monkeypatch
):
    streams.publish(shop.label, expected="", at="777-1", tick=777)  # the cursor of another database
    record()
    monkeypatch.setattr(tasks, "_lines", Sparing(seconds=0.0))
    for _ in range(2):
        tasks.relay(shop.label)
    assert caplog.text.count(f"the relay of {shop.label} stopped") == 2


def test_a_task_is_queued_if_its_queue_cannot_be_checked(valkey, monkeypatch):
    declare = kombu.Queue.queue_declare

    def declare_without_count(self: kombu.Queue, *about: Any, **options: Any) -> None:
        declare(self, *about, **options)

    app.finalize()
    broker_url = f"{valkey.url.removesuffix('/0')}/1"
    with redis.Redis.from_url(broker_url) as broker, app.connection_for_write(broker_url) as line:
        broker.flushdb()
        monkeypatch.setattr(kombu.Queue, "queue_declare", declare_without_count)
        tasks.prune.apply_async(("shop",), queue="probe", producer=app.amqp.Producer(line))
        assert broker.llen(f"{PREFIX}probe") == 1


def test_an_eager_task_needs_no_broker(monkeypatch):
    ran: list[str] = []

    def run(label: str) -> None:
        ran.append(label)

    task = app.task(run, base=tasks.PeriodicTask, name="tests.eager")
    monkeypatch.setattr(app.conf, "task_always_eager", True)
    monkeypatch.setattr(kombu.Queue, "queue_declare", lambda *_: pytest.fail("a broker was asked"))
    assert task.apply_async(("shop",)).successful()
    assert ran == ["shop"]


def test_beat_queues_few_messages_while_no_worker_runs(valkey):
    app.finalize()
    scheduler = Scheduler(app=app)
    entries = [scheduler.schedule[name] for name in app.conf.beat_schedule]
    broker_url = f"{valkey.url.removesuffix('/0')}/1"
    with redis.Redis.from_url(broker_url) as broker, app.connection_for_write(broker_url) as line:
        broker.flushdb()
        producer = app.amqp.Producer(line)

        def queue_all() -> list[int]:
            """Queue every periodic task once; returns the length of each queue."""
            for entry in entries:
                scheduler.apply_async(entry, producer=producer, advance=False)
            return [broker.llen(f"{PREFIX}{service}") for service in settings.APPLICATIONS]

        once = queue_all()
        assert sum(once) == len(entries)
        assert max(once) < tasks.MOST_WAITING
        for _ in range(tasks.MOST_WAITING):
            queue_all()
        assert queue_all() == [tasks.MOST_WAITING for _ in settings.APPLICATIONS]
        broker.flushdb()  # as if a worker had read all messages
        assert queue_all() == once
