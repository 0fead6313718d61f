"""The Celery application of the worker that runs the relay's task."""

import os
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import task_prerun

from . import BEGAN

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_prerun.connect
def note_beginning(**_: Any) -> None:
    began = repr(time.time())
    redis.Redis.from_url(os.environ["BENCH_BROKER_URL"]).set(BEGAN, began)
