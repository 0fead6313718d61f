"""What goes wrong at the ring."""


class RingError(Exception):
    """Anything that the ring has to say."""


class NodeFailed(RingError):
    """A node didn't do what it was asked to; `node` is its name."""

    def __init__(self, node: str, why: object) -> None:
        self.node = node
        super().__init__(f"ring node {node}: {why}")


class ValueTooLarge(RingError, ValueError):
    """A value that would crowd others out; sizes in bytes."""

    def __init__(self, key: str, *, size: int, limit: int) -> None:
        self.key = key
        self.size = size
        self.limit = limit
        super().__init__(f"the value of {key} has {size} bytes; the cache ring keeps up to {limit}")


class RingUnavailable(RingError):
    """The ring's members couldn't be told, so that other processes may go on as before."""
