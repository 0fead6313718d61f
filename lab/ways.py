"""The three ways of keeping users, and their variants: each technique next to its absence."""

from collections.abc import Mapping
from typing import Final

from .centralized import Cached, CachedWithoutLeases, Primary, Split, SplitWithoutToken
from .decentralized import Copy, Ring, RingModulo
from .event_driven import Events, Projection, Snapshots
from .users import Users

# The first variant of each way is the default.
WAYS: Final[Mapping[str, Mapping[str, type[Users]]]] = {
    "centralized": {
        "split": Split,
        "split-without-token": SplitWithoutToken,
        "primary": Primary,
        "cache": Cached,
        "cache-without-leases": CachedWithoutLeases,
    },
    "decentralized": {
        "ring": Ring,
        "ring-modulo": RingModulo,
        "copy": Copy,
    },
    "event-driven": {
        "events": Events,
        "snapshots": Snapshots,
        "projection": Projection,
    },
}


class UnknownWay(LookupError):
    """There is no such way. The text lists the ways."""


class UnknownVariant(LookupError):
    """The way has no such variant. The text lists its variants."""


def variants(way: str) -> tuple[str, ...]:
    """The names of the way's variants, the default first. Raises UnknownWay."""
    return tuple(_of(way))


def open(way: str, variant: str = "") -> Users:  # noqa: A001 - used as ways.open
    """The users, kept in this way. Raises UnknownWay or UnknownVariant."""
    table = _of(way)
    name = variant or next(iter(table))
    if name not in table:
        raise UnknownVariant(f"{way} has no variant {name!r}; variants: {', '.join(table)}")
    return table[name]()


def _of(way: str) -> Mapping[str, type[Users]]:
    if way not in WAYS:
        raise UnknownWay(f"no way {way!r}; ways: {', '.join(WAYS)}")
    return WAYS[way]
