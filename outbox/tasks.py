"""The Celery tasks of the relay and of retention.

The relay's task lingers: it publishes at each nudge, and after LINGER_SECONDS queues itself again,
so no event waits for a task to start. Beat sends one every second. If a relay runs already, the new
task returns at once; if it runs in the same process, without a query. Run the worker with a threads
pool, prefetch 1, and at least two more slots than services.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.db import Error as DatabaseError

from . import streams, tables
from .errors import OutboxError
from .publishing import relay as relays
from .publishing import retention

log = logging.getLogger(__name__)

LINGER_SECONDS = 15.0
RELAY_EVERY_SECONDS = 1.0
PRUNE_EVERY_SECONDS = 10.0
HANDOVER_SECONDS = 5  # a successor that hasn't started by then expires: beat has sent another

_stopping = threading.Event()
_labels: set[str] = set()  # services whose relays can be waiting in this process
# Until when a relay of this process counts as running. A hanging one excludes no other after that.
_running_until: dict[str, float] = {}


@shared_task(bind=True, name="outbox.relay", ignore_result=True, acks_late=False)
def relay(self: "Task[..., None]", label: str) -> None:
    """Publish the service's outbox for LINGER_SECONDS. Errors are logged; beat sends the next."""
    if time.monotonic() < _running_until.get(label, 0.0):
        return
    _labels.add(label)
    _running_until[label] = time.monotonic() + LINGER_SECONDS
    try:
        reason = relays.run(
            tables.of(label), streams.connect(), stopping=_stopping, linger_seconds=LINGER_SECONDS
        )
    except (OutboxError, DatabaseError) as exc:
        log.warning("the relay of %s stopped: %s", label, str(exc).strip())
        return
    finally:
        _running_until.pop(label, None)
    if reason is relays.Outcome.LINGERED:
        self.apply_async(
            (label,),
            queue=str((self.request.delivery_info or {}).get("routing_key") or label),
            expires=HANDOVER_SECONDS,
        )


@shared_task(name="outbox.prune", ignore_result=True, acks_late=False)
def prune(label: str) -> None:
    """One round of retention. Errors are logged; beat sends the next."""
    try:
        retention.prune(tables.of(label), streams.connect())
    except (OutboxError, DatabaseError) as exc:
        log.warning("the outbox of %s was not pruned: %s", label, str(exc).strip())


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()
    for label in _labels:
        streams.connect().nudge(label)


def beat_schedule(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Beat's entries: the relay and a round of retention per service, on the service's queue."""
    return {
        f"{task}-{label}": {
            "task": f"outbox.{task}",
            "schedule": seconds,
            "args": (label,),
            "options": {"queue": label, "expires": seconds},
        }
        for label in labels
        for task, seconds in (("relay", RELAY_EVERY_SECONDS), ("prune", PRUNE_EVERY_SECONDS))
    }
