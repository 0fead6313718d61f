"""Sends the ids of a request with each Celery task that the request starts."""

from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun

from config.request_ids import request_id
from outbox.trace_context import traceparent

# The names of the headers. OpenTelemetry uses the second one too.
_SENT: Final = {"request_id": request_id, "traceparent": traceparent}


@before_task_publish.connect
def send_ids(headers: dict[str, Any] | None = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if headers is not None and (value := current.get()):
            headers.setdefault(name, value)


@task_prerun.connect
def receive_ids(task: Any = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if isinstance(value := getattr(task.request, name, None), str):
            current.set(value)


@task_postrun.connect
def clear_ids(task: Any = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if getattr(task.request, name, None) is not None:
            current.set("")
