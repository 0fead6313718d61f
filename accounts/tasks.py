"""Periodic tasks of accounts."""

import logging
from typing import Any

from celery import shared_task
from django.db import Error as DatabaseError

from outbox.errors import OutboxError
from outbox.tasks import PeriodicTask

from .erasure import finish_erasures

log = logging.getLogger(__name__)

BEAT: dict[str, dict[str, Any]] = {
    "accounts-finish-erasures": {
        "task": "accounts.finish_erasures",
        "schedule": 10.0,  # seconds; consumers confirm every 5 s
        "options": {"queue": "accounts", "expires": 10},
    }
}


@shared_task(base=PeriodicTask, name="accounts.finish_erasures")
def finish_erasures_that_wait() -> int:
    """Purge the older events of forgotten users; returns how many users still wait, -1 on error."""
    try:
        return len(finish_erasures())
    except (OutboxError, DatabaseError) as exc:
        log.warning("some erasures wait for the next run: %s", exc)
        return -1
