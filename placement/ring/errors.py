"""Errors of the cache ring."""

from collections.abc import Iterable


class RingError(Exception):
    """The base of all errors of the ring."""


class NodeFailed(RingError):
    """A node didn't answer, or refused a command. `node` is the node's name."""

    def __init__(self, node: str, why: object) -> None:
        self.node = node
        super().__init__(f"ring node {node}: {why}")


class UnknownArrangement(RingError, ValueError):
    """The option ARRANGEMENT names no way to place keys."""

    def __init__(self, arrangement: str, *, known: Iterable[str]) -> None:
        self.arrangement = arrangement
        super().__init__(f"ARRANGEMENT is {arrangement!r}; expected {' or '.join(known)}")


class ValueTooLarge(RingError, ValueError):
    """A value exceeds the size limit. `size` and `limit` are in bytes."""

    def __init__(self, key: str, *, size: int, limit: int) -> None:
        self.key = key
        self.size = size
        self.limit = limit
        super().__init__(f"the value of {key} has {size} bytes; the cache ring keeps up to {limit}")


class RingUnavailable(RingError):
    """The list of members couldn't be changed, so other processes still use the old list."""


class NotACounter(RingError, TypeError):
    """The value to increment isn't an integer."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the value of {key} isn't an integer")


class CounterOverflow(RingError, OverflowError):
    """The sum, or one of its parts, needs more than the 64 bits of a node's counters."""

    def __init__(self, key: str, *, delta: int) -> None:
        self.key = key
        self.delta = delta
        super().__init__(f"the cache ring counts with 64 bits: {key} can't be changed by {delta}")
