"""The adapter to the outbox. In a project without an outbox, tokens contain only LSNs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final

from django.core.management.base import BaseCommand

Report = dict[str, Any]
HAS_OUTBOX: Final = find_spec("outbox") is not None

if HAS_OUTBOX:
    from outbox.recorder import last_write
else:
    last_write = ContextVar("placement_last_write", default=MappingProxyType({}))


def forget_last_writes() -> None:
    """Clear the last writes before and after a request: a thread's context outlives a request."""
    last_write.set(MappingProxyType({}))


def last_xid(service: str) -> int | None:
    """The id of the last transaction in this context that recorded an event of the service."""
    return last_write.get().get(service)


@contextmanager
def outbox_status(command: BaseCommand) -> Iterator[tuple[Report, Callable[[], None]]]:
    """Yield the outbox's part of `manage.py status`: the report, and a function that prints it.

    Inside the block, errors of the outbox or the database become a CommandError of one line.
    """
    if not HAS_OUTBOX:
        yield {"services": {}}, lambda: None
        return
    from outbox import status, streams
    from outbox.management.status import Status
    from outbox.management.subcommand import one_line_errors

    with one_line_errors():
        report = status.report(streams.connect())
        yield {"services": dict(report["services"])}, lambda: Status(command).show(report)
