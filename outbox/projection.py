"""What a service can rebuild from its stored events: one visible table in its consumers.py.

::

    PROJECTIONS = {
        "order_view": Projection(models=("OrderView",), handlers=order_view, …),
    }
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from . import consumer as consuming
from .consumer import Consumer, Handler
from .envelope import Envelope
from .errors import RebuildRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay told in one go: the events to apply, of how many stored events, and the key
    of the last aggregate. No events: there are no more."""

    envelopes: Sequence[Envelope]
    events: int
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What a consumer keeps, and from what that can be made again.

    `handlers(suffix)` are the consumer's handlers, writing to its models' tables with that
    suffix. `replay(snapshot=…, after=…, limit=…)` tells again what was announced, aggregate by
    aggregate in the order of their keys, as far as `snapshot` sees it; in each aggregate's
    order, and whatever a handler would pass over may be left out. `count()` is how many stored
    events there are, about.
    """

    models: tuple[str, ...]
    handlers: Callable[[str], Mapping[str, Handler]]
    replay: Callable[..., Replayed]
    count: Callable[[], int]


def every() -> Iterator[tuple[str, Projection]]:
    """The projections of all installed services."""
    for config in apps.get_app_configs():
        if config.module and module_has_submodule(config.module, "consumers"):
            table = getattr(import_module(f"{config.name}.consumers"), "PROJECTIONS", {})
            yield from table.items()


def named(name: str) -> tuple[Consumer, Projection]:
    """A projection and its consumer. Raises RebuildRefused, saying what to do instead."""
    found = dict(every())
    if name in found:
        return consuming.named(name), found[name]
    for consumer in consuming.every():
        if consumer.name == name:
            told = " and ".join(consumer.producers)
            raise RebuildRefused(
                f"{name} is kept by the events of {told}, which {consumer.label} doesn't store: "
                f"manage.py backfill {told}, where {told} runs, tells them again"
            )
    raise RebuildRefused(f"no projection {name!r}; there are: {', '.join(found) or 'none'}")
