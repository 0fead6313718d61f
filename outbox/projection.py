"""The projections that a service can rebuild, declared in its consumers.py.

::

    PROJECTIONS = {
        "order_view": Projection(models=("OrderView",), handlers=order_view, replay=…, …),
        "customer_view": Copy(models=("CustomerView",), handlers=customer_view, backfill=…, …),
    }
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from . import consumer as consumers
from .consumer import Consumer, Handler
from .errors import RebuildRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One chunk of a replay: the changes to write, the number of stored events that were read, and
    the key of the last aggregate. If `changes` is empty, the replay is complete."""

    changes: Sequence[Any]
    events: int
    last: str


class Project(Protocol):
    """Write changes, in order, to the tables whose names end with `suffix`."""

    def __call__(self, changes: Sequence[Any], /, *, suffix: str) -> None: ...


class Replay(Protocol):
    """Return the next chunk: about `limit` of the stored events that `snapshot` sees, as changes.
    The chunk has the aggregates after the key `after`, in the order of their keys, each with its
    events in order. It may omit a change that a later change overwrites."""

    def __call__(self, *, snapshot: str, after: str, limit: int) -> Replayed: ...


class BackfillPage(Protocol):
    """Have the owner announce the next aggregates after the key `after` ('' to start), and wait
    until the consumer has applied their events. Returns the last key, or '' at the end."""

    def __call__(self, *, after: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A consumer whose rows can be rebuilt from its service's stored events.

    `handlers(suffix)` returns its handlers, which write to the tables with that suffix. The
    handlers and a rebuild turn events into changes and call `project`. `count()` returns the
    approximate number of stored events, for the progress bar.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    project: Project
    replay: Replay
    count: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A consumer with copies of another service's rows. Only that service can announce them again.

    `handlers(suffix)` is as in `Projection`. `count()` returns the approximate number of rows.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    backfill: BackfillPage
    count: Callable[[], int]


def every() -> Iterator[tuple[str, Projection | Copy]]:
    """The projections of all installed services."""
    for config in apps.get_app_configs():
        if config.module and module_has_submodule(config.module, "consumers"):
            table = getattr(import_module(f"{config.name}.consumers"), "PROJECTIONS", {})
            yield from table.items()


def named(name: str) -> tuple[Consumer, Projection | Copy]:
    """The consumer and the projection of this name. Raises RebuildRefused if there is none."""
    found = dict(every())
    if name in found:
        return consumers.named(name), found[name]
    if any(consumer.name == name for consumer in consumers.every()):
        raise RebuildRefused(f"{name} is a consumer but has no projection to rebuild")
    raise RebuildRefused(f"no projection {name!r}; projections: {', '.join(found) or 'none'}")
