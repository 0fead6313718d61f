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
    """One chunk of a replay: the changes to project, the number of stored events that they come
    from, and the key of the last aggregate. No changes: the replay is complete."""

    changes: Sequence[Any]
    events: int
    last: str


class Project(Protocol):
    """Write changes, in order, to the models' tables with the suffix."""

    def __call__(self, changes: Sequence[Any], /, *, suffix: str) -> None: ...


class Replay(Protocol):
    """The next chunk of the stored events that `snapshot` sees, about `limit` of them: aggregates
    in the order of their keys after `after`, each with its events in order. Changes that a later
    one makes void may be left out."""

    def __call__(self, *, snapshot: str, after: str, limit: int) -> Replayed: ...


class BackfillPage(Protocol):
    """Have the owner announce its next aggregates after a key ('' to start). Returns the last key,
    '' at the end, once the consumer has applied their events."""

    def __call__(self, *, after: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A consumer whose rows can be rebuilt from its service's stored events.

    `handlers(suffix)` are its handlers, writing to its models' tables with that suffix. They call
    `project` with changes made from events, and so does a rebuild. `count()` is the approximate
    number of stored events, for the progress bar.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    project: Project
    replay: Replay
    count: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A consumer whose rows copy another service's: only that service can announce them again.

    `handlers(suffix)` as above; `count()` is the approximate number of rows.
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
    """A projection and its consumer. Raises RebuildRefused with the names that exist."""
    found = dict(every())
    if name in found:
        return consumers.named(name), found[name]
    if any(consumer.name == name for consumer in consumers.every()):
        raise RebuildRefused(f"{name} is a consumer without rows that can be rebuilt")
    raise RebuildRefused(f"no projection {name!r}; there are: {', '.join(found) or 'none'}")
