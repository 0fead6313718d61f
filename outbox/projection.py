"""What a service can rebuild, and from what: one visible table in its consumers.py.

::

    PROJECTIONS = {
        "order_view": Projection(models=("OrderView",), handlers=order_view, replay=…, …),
        "customer_view": Copy(models=("CustomerView",), handlers=customer_view, retell=…, …),
    }
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from . import consumer as consuming
from .consumer import Consumer, Handler
from .errors import RebuildRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay told in one go: what to project, of how many stored events, and the key of
    the last aggregate. No changes: there are no more."""

    changes: Sequence[Any]
    events: int
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What a consumer keeps, and from what that can be made again.

    `handlers(suffix)` are the consumer's handlers, writing to its models' tables with that
    suffix, and `project(changes, suffix=…)` is what they call with what they read of events.
    `replay(snapshot=…, after=…, limit=…)` tells that again, aggregate by aggregate in the order
    of their keys, as far as `snapshot` sees it; in each aggregate's order, and whatever would
    change nothing may be left out. `count()` is how many stored events there are, about.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    project: Callable[..., None]
    replay: Callable[..., Replayed]
    count: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What a consumer keeps of another service's events, which only their owner can tell again.

    `handlers(suffix)` as above. `retell(after=…)` has the owner announce the state of its next
    aggregates after a key ('' to begin) and returns the last key, '' at the end, once the consumer
    has applied what was announced. `count()` is how many rows there are, about.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    retell: Callable[..., str]
    count: Callable[[], int]


def every() -> Iterator[tuple[str, Projection | Copy]]:
    """The projections of all installed services."""
    for config in apps.get_app_configs():
        if config.module and module_has_submodule(config.module, "consumers"):
            table = getattr(import_module(f"{config.name}.consumers"), "PROJECTIONS", {})
            yield from table.items()


def named(name: str) -> tuple[Consumer, Projection | Copy]:
    """A projection and its consumer. Raises RebuildRefused, saying what to do instead."""
    found = dict(every())
    if name in found:
        return consuming.named(name), found[name]
    if any(consumer.name == name for consumer in consuming.every()):
        raise RebuildRefused(f"{name} is a consumer and keeps nothing that can be made anew")
    raise RebuildRefused(f"no projection {name!r}; there are: {', '.join(found) or 'none'}")
