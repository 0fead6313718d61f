"""Sends the token with each Celery task: the task reads the writes of the request that sent it.

A task without a token, such as a task of beat, reads the primary.
"""

from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun

from ..homes import services
from . import reading
from .reading import Reading
from .tokens import Token, UnreadableToken, parse

KEY: Final = "consistency_token"


@before_task_publish.connect
def send_token(headers: dict[str, Any] | None = None, **_: Any) -> None:
    now = reading.current()
    if now is not None and headers is not None:
        headers.setdefault(KEY, str(now.renewed_token() or now.token))


@task_prerun.connect
def receive_token(task: Any = None, **_: Any) -> None:
    text = getattr(task.request, KEY, None)
    if isinstance(text, str):
        reading.set_current(_reading(text))


@task_postrun.connect
def clear_token(task: Any = None, **_: Any) -> None:
    if getattr(task.request, KEY, None) is not None:
        reading.set_current(None)


def _reading(text: str) -> Reading:
    try:
        return Reading(token=parse(text, services=services()))
    except UnreadableToken:
        return Reading(token=Token(), from_replicas=False)
