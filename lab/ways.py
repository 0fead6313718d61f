"""The three ways and their variants: each technique next to its absence."""

from collections.abc import Mapping
from typing import Final

from .users import Users


WAYS: Final[Mapping[str, Mapping[str, type[Users]]]] = {
    # The first variant of a way is its default.
    "centralized": {},  # split, split-without-token, primary, cache, cache-without-leases
    "decentralized": {},  # ring, ring-modulo, copy
    "event-driven": {},  # events, snapshots, projection
}


class UnknownWay(LookupError):
    """No such way or variant. The text lists the ones that exist."""


def variants(way: str) -> tuple[str, ...]:
    """The names of the way's variants, the default first. Raises UnknownWay."""
    return tuple(_of(way))


def open(way: str, variant: str | None = None) -> Users:  # noqa: A001 - read as ways.open
    """The users, kept in this way. Raises UnknownWay."""
    table = _of(way)
    name = variant or next(iter(table))
    if name not in table:
        raise UnknownWay(f"{way} has no variant {name!r}; variants: {', '.join(table)}")
    return table[name]()


def _of(way: str) -> Mapping[str, type[Users]]:
    if way not in WAYS:
        raise UnknownWay(f"no way {way!r}; ways: {', '.join(WAYS)}")
    return WAYS[way]
