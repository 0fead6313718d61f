"""The Celery tasks of the relay and of retention. No other module of the outbox imports Celery.

The relay's task publishes at each nudge for LINGER_SECONDS and then queues itself again, so no
event waits for a task to start. Beat also queues a task every second. If a relay already runs, the
new task returns immediately. If that relay runs in the same process, this check needs no query. Run
the worker with a threads pool, prefetch 1, and at least two more slots than services.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.db import Error as DatabaseError

from . import progress, streams, tables
from .errors import OutboxError
from .pacing import Sparing
from .publishing import relay as relays
from .publishing import retention
from .publishing.retention import PRUNE_EVERY_SECONDS

log = logging.getLogger(__name__)

LINGER_SECONDS = 15.0
RELAY_EVERY_SECONDS = 1.0
MOST_WAITING = 20  # messages in a queue; more than the number of its periodic tasks
HANDOVER_SECONDS = 5  # if the next task hasn't started by then, it expires; beat has queued another

_stopping = threading.Event()
_labels: set[str] = set()  # services whose relays may wait for a nudge in this process
# Until this time, a relay of this process counts as running. Later, a new task may start a relay.
_running_until: dict[str, float] = {}
_lines = Sparing()  # beat starts a failed task again after a second


class PeriodicTask(Task):  # type: ignore[type-arg] # generic in the stubs only
    """A task that beat queues at an interval. It isn't queued while MOST_WAITING messages wait in
    its queue: then no worker is free, and beat tries again after the interval.

    `expires` alone bounds no queue: a worker drops an expired message when it reads the message,
    and Redis keeps the message until then.
    """

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Queue the task. Returns None if it isn't queued."""
        is_eager = self.app.conf.task_always_eager
        if not is_eager and self._waiting(args, kwargs, options) >= MOST_WAITING:
            return None
        return super().apply_async(args, kwargs, **options)

    def _waiting(self, args: Any, kwargs: Any, options: dict[str, Any]) -> int:
        """The number of messages in the task's queue; 0 if the broker doesn't report it."""
        try:
            with self.app.producer_or_acquire(options.get("producer")) as producer:
                queue = self.app.amqp.router.route(dict(options), self.name, args, kwargs)["queue"]
                return int(queue(producer.channel).queue_declare().message_count)
        except Exception as exc:  # noqa: BLE001 - queueing fails by itself, with Celery's retries
            log.info("the queue of %s was not checked: %s", self.name, exc)
            return 0


@shared_task(bind=True, base=PeriodicTask, name="outbox.relay", ignore_result=True, acks_late=False)
def relay(self: "Task[..., None]", label: str) -> None:
    """Publish the outbox for LINGER_SECONDS. Logs an error, the same one once a minute, and ends;
    beat queues the next task."""
    if time.monotonic() < _running_until.get(label, 0.0):
        return
    _labels.add(label)
    _running_until[label] = time.monotonic() + LINGER_SECONDS
    try:
        reason = relays.run(
            tables.of(label), streams.connect(), stopping=_stopping, linger_seconds=LINGER_SECONDS
        )
    except (OutboxError, DatabaseError) as exc:
        _warn(f"the relay of {label} stopped: {str(exc).strip()}")
        return
    finally:
        _running_until.pop(label, None)
        progress.report(f"relay of {label}")  # also if another process has the relay
    if reason is relays.Outcome.LINGERED:
        self.apply_async(
            (label,),
            queue=str((self.request.delivery_info or {}).get("routing_key") or label),
            expires=HANDOVER_SECONDS,
        )


@shared_task(base=PeriodicTask, name="outbox.prune", ignore_result=True, acks_late=False)
def prune(label: str) -> None:
    """Run one round of retention. Logs an error and ends; beat queues the next task."""
    try:
        retention.prune(tables.of(label), streams.connect())
    except (OutboxError, DatabaseError) as exc:
        _warn(f"the outbox of {label} was not pruned: {str(exc).strip()}")


def _warn(line: str) -> None:
    if _lines.allows(line):
        log.warning("%s", line)


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()
    for label in _labels:
        streams.connect().nudge(label)


def beat_schedule(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Beat's entries. Each service gets its relay and retention tasks, on its own queue."""
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
