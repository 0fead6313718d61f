"""Sends the ids of a request with each Celery task that the request starts."""

from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun

from config.request_ids import request_id
from outbox.trace_context import traceparent

# The names of the headers. OpenTelemetry uses the second one too.
_SENT: Final = {"request_id": request_id, "traceparent": traceparent}


def connect() -> None:
    """Let Celery call the functions of this module."""
    before_task_publish.connect(send_ids)
    task_prerun.connect(receive_ids)
    task_postrun.connect(clear_ids)


def send_ids(headers: dict[str, Any] | None = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if headers is not None and (value := current.get()):
            headers.setdefault(name, value)


def receive_ids(task: Any = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if isinstance(value := getattr(task.request, name, None), str):
            current.set(value)


def clear_ids(task: Any = None, **_: Any) -> None:
    for name, current in _SENT.items():
        if getattr(task.request, name, None) is not None:
            current.set("")
