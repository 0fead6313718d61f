"""The adapter to the outbox. In a project without an outbox, tokens contain only LSNs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final

from django.apps import apps
from django.core.management.base import BaseCommand

Report = dict[str, Any]


def _installed() -> str:
    """The package of the installed outbox; empty if there is none. A project may have the outbox as
    `outbox`, as `mitosis_outbox` or under a name of its own, and other packages as `outbox`."""
    names = (config.name for config in apps.get_app_configs())
    return next((name for name in names if _is_outbox(name)), "")


def _is_outbox(name: str) -> bool:
    folder = find_spec(name)
    return bool(
        folder
        and folder.submodule_search_locations
        and find_spec(f"{name}.recorder")
        and find_spec(f"{name}.agreeing")
    )


_OUTBOX: Final = _installed()
HAS_OUTBOX: Final = bool(_OUTBOX)


def outbox(module: str) -> Any:
    """Import a module of the installed outbox."""
    return import_module(f"{_OUTBOX}.{module}")


last_write: ContextVar[Any] = (
    outbox("recorder").last_write
    if HAS_OUTBOX
    else ContextVar("placement_last_write", default=MappingProxyType({}))
)


def forget_last_writes() -> None:
    """Clear the last writes before and after a request: a thread's context outlives a request."""
    last_write.set(MappingProxyType({}))


def last_xid(service: str) -> int | None:
    """The id of the last transaction in this context that recorded an event of the service."""
    xid: int | None = last_write.get().get(service)
    return xid


@contextmanager
def outbox_status(command: BaseCommand) -> Iterator[tuple[Report, Callable[[], None]]]:
    """Yield the outbox's part of `manage.py status`: the report, and a function that prints it.

    Inside the block, errors of the outbox or the database become a CommandError of one line.
    """
    if not HAS_OUTBOX:
        yield {"services": {}}, lambda: None
        return
    show = outbox("management.status").Status(command).show
    with outbox("management.subcommand").one_line_errors():
        report = outbox("status").report(outbox("streams").connect())
        yield {"services": dict(report["services"])}, lambda: show(report)
