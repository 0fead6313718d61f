"""Configures Celery, which runs the relays and periodic tasks. No web request uses its broker.

Each service has a queue with its name. A deployment's worker reads only its services' queues.
"""

import logging
import os
from importlib import import_module
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_ready
from django.conf import settings
from django.utils.module_loading import module_has_submodule

from config import task_ids
from config.logs import configure, formatter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("mitosis")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
task_ids.connect()


@setup_logging.connect
def configure_logging(**_: object) -> None:
    """Use Django's logging: Celery installs no handlers if this signal has a receiver."""
    configure(settings.LOGGING)


@celeryd_init.connect
def format_signals(**_: object) -> None:
    """Format what Celery writes at a signal, such as *Warm shutdown*. It writes past the log."""
    from celery.apps import worker

    worker.safe_say = _say  # type: ignore[attr-defined] # of the module


def _say(message: str, *_: object) -> None:
    record = logging.LogRecord("celery.worker", logging.INFO, "", 0, message, None, None)
    os.write(2, f"{formatter().format(record)}\n".encode())


@worker_ready.connect
def expect_relays(**_: object) -> None:
    """Create the progress files of the relays, so that a relay that never starts is noticed."""
    from outbox import progress

    for label in settings.APPLICATIONS:
        progress.report(f"relay of {label}")


@app.on_after_finalize.connect
def schedule(sender: Celery, **_: object) -> None:
    """Add to beat's schedule a relay and a sample of the state per service, and the entries of each
    `tasks.BEAT`."""
    from outbox.tasks import beat_schedule

    entries: dict[str, Any] = beat_schedule(settings.APPLICATIONS)
    entries |= import_module("pages.tasks").beat_schedule(settings.SERVICES)
    for service in settings.SERVICES:
        if module_has_submodule(import_module(service), "tasks"):
            entries |= getattr(import_module(f"{service}.tasks"), "BEAT", {})
    sender.conf.beat_schedule = {**sender.conf.beat_schedule, **entries}
