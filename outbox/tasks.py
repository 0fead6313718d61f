"""Celery's side of the relay: it owns the relay's life, and no event pays its dispatch.

The task lingers: it publishes, waits to be nudged, and after LINGER_SECONDS queues itself
again. Beat starts one each second; where one runs already, the new one returns at once, without
asking the database if that one is of the same process. Run the worker with a threads pool,
prefetch 1, and at least two slots more than services.
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
from .publishing import relay as relaying
from .publishing import retention

log = logging.getLogger(__name__)

LINGER_SECONDS = 15.0
RELAY_EVERY_SECONDS = 1.0
PRUNE_EVERY_SECONDS = 10.0
HANDOVER_SECONDS = 5  # a successor that couldn't start by then isn't needed: beat sent another

_stopping = threading.Event()
_waking: set[str] = set()  # whose relays may be waiting here
# Until when one that was begun here is believed to run: one that hangs keeps no other out for long.
_until: dict[str, float] = {}


@shared_task(bind=True, name="outbox.relay", ignore_result=True, acks_late=False)
def relay(self: "Task[..., None]", label: str) -> None:
    """Publish the service's outbox for a while. Errors are logged; beat sends the next one."""
    if time.monotonic() < _until.get(label, 0.0):
        return
    _waking.add(label)
    _until[label] = time.monotonic() + LINGER_SECONDS
    try:
        ended = relaying.run(
            tables.of(label),
            streams.connect(),
            stopping=_stopping,
            linger_seconds=LINGER_SECONDS,
        )
    except (OutboxError, DatabaseError) as exc:
        log.warning("the relay of %s stopped: %s", label, str(exc).strip())
        return
    finally:
        _until.pop(label, None)
    if ended is relaying.Ended.LINGERED:
        self.apply_async(
            (label,),
            queue=str((self.request.delivery_info or {}).get("routing_key") or label),
            expires=HANDOVER_SECONDS,
        )


@shared_task(name="outbox.prune", ignore_result=True, acks_late=False)
def prune(label: str) -> None:
    """One round of retention. Errors are logged; beat sends the next one."""
    try:
        retention.prune(tables.of(label), streams.connect())
    except (OutboxError, DatabaseError) as exc:
        log.warning("the outbox of %s was not pruned: %s", label, str(exc).strip())


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()
    for label in _waking:
        streams.connect().nudge(label)


def beat_schedule(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Beat's entries: a relay and a round of retention per service, each on the queue of its
    service's name."""
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
