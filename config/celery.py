"""Celery owns the life of relays and periodic work; nothing in a web request calls its broker.

A queue per service, named after it: a deployment works only on its own.
"""

import logging.config
import os
from importlib import import_module
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from django.utils.module_loading import module_has_submodule

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("mitosis")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """A receiver here is what stops Celery from installing its own handlers."""
    logging.config.dictConfig(settings.LOGGING)


@app.on_after_finalize.connect
def schedule(sender: Celery, **_: object) -> None:
    """Beat's table: a relay per service, and what each service asks for in `tasks.BEAT`."""
    from outbox.tasks import beat_schedule

    sender.conf.beat_schedule = beat_schedule(settings.SERVICES) | services_schedule()


def services_schedule() -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for service in settings.SERVICES:
        if module_has_submodule(import_module(service), "tasks"):
            entries |= getattr(import_module(f"{service}.tasks"), "BEAT", {})
    return entries
