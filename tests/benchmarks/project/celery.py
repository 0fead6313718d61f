"""The Celery application of the worker that runs the relay's task."""

import os
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import task_postrun, task_prerun, worker_ready

from tests.benchmarks.project import ENDED, STARTED

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def linger(**_: Any) -> None:
    """Sets the relay's lingering time: a task that is timed alone must not queue a successor."""
    from outbox import tasks

    tasks.LINGER_SECONDS = float(os.environ.get("BENCH_LINGER_SECONDS", tasks.LINGER_SECONDS))


@task_prerun.connect
def note_start(**_: Any) -> None:
    _note(STARTED)


@task_postrun.connect
def note_end(**_: Any) -> None:
    _note(ENDED)


def _note(name: str) -> None:
    now = repr(time.time())
    with redis.Redis.from_url(os.environ["BENCH_BROKER_URL"]) as broker:
        broker.set(name, now)
