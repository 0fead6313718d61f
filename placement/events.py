"""The adapter to the outbox. Without an outbox, tokens contain LSNs only."""

from collections.abc import Callable
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from django.core.management.base import BaseCommand

Report = dict[str, Any]

try:
    from outbox.recorder import last_write
except ModuleNotFoundError:
    last_write = ContextVar("placement_last_write", default=MappingProxyType({}))


def forget_last_writes() -> None:
    """Called at the start of a request, because a thread's context outlives its requests."""
    last_write.set(MappingProxyType({}))


def last_xid(service: str) -> int | None:
    """The id of this context's last transaction that recorded an event of the service, if any."""
    return last_write.get().get(service)


def outbox_status(command: BaseCommand) -> tuple[Report, Callable[[Report], None]]:
    """The outbox's part of `manage.py status`: the report, and the function that prints it."""
    try:
        from outbox import status, streams
        from outbox.management.status import Status
    except ModuleNotFoundError:
        return {"services": {}}, lambda _: None
    report: Any = status.report(streams.connect())
    return report, lambda report: Status(command).show(report)
