"""The token travels with tasks: what a request wrote is there when its task reads.

A task that was sent from no request, by beat for instance, reads the primary.
"""

from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun
from django.conf import settings

from . import reading
from .reading import Reading
from .tokens import Token, UnreadableToken, parse

KEY: Final = "consistency_token"


@before_task_publish.connect
def give(headers: dict[str, Any] | None = None, **_: Any) -> None:
    now = reading.current()
    if now is not None and headers is not None:
        headers.setdefault(KEY, str(now.renewed() or now.token))


@task_prerun.connect
def take(task: Any = None, **_: Any) -> None:
    text = getattr(task.request, KEY, None)
    if isinstance(text, str):
        reading.enter(_reading(text))


@task_postrun.connect
def drop(task: Any = None, **_: Any) -> None:
    if getattr(task.request, KEY, None) is not None:
        reading.enter(None)


def _reading(text: str) -> Reading:
    try:
        return Reading(token=parse(text, services=settings.PLACEMENT_SERVICES))
    except UnreadableToken:
        return Reading(token=Token(), from_replicas=False)
