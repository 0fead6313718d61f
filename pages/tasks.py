"""The periodic task that keeps the history of the flow page."""

import logging
from collections.abc import Iterable
from typing import Any

from celery import shared_task
from django.db import Error as DatabaseError

from outbox.errors import OutboxError
from outbox.tasks import PeriodicTask

from .flow import history

log = logging.getLogger(__name__)


@shared_task(base=PeriodicTask, name="pages.sample", ignore_result=True)
def sample(label: str) -> None:
    """Store the figures of a service, and delete rows that are too old."""
    try:
        history.sample(label)
    except (OutboxError, DatabaseError) as exc:
        log.warning("no sample of %s was stored: %s", label, " ".join(str(exc).split()))


def beat_schedule(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Beat's entries: one task for each service, on the service's queue."""
    return {
        f"sample-{label}": {
            "task": "pages.sample",
            "schedule": history.EVERY_SECONDS,
            "args": (label,),
            "options": {"queue": label, "expires": history.EVERY_SECONDS},
        }
        for label in labels
    }
