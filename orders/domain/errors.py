"""Why a command can't be obeyed, as one small tree. Errors carry their data.

`extras` is what an answer may show beside the sentence (never as `status`: RFC 9457 means the
HTTP status by that).
"""

from uuid import UUID


class OrderError(Exception):
    """Root of the tree."""

    @property
    def extras(self) -> dict[str, object]:
        return {}


class InvalidLines(OrderError):
    """The lines break a limit; the message says which. `line` counts from 1."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class OrderNotFound(OrderError):
    """There is no such order, or none that the caller may know of."""

    def __init__(self, order_id: UUID) -> None:
        super().__init__(f"There is no order {order_id}.")
        self.order_id = order_id


class VersionNotFound(OrderError):
    """The order had no such version, or didn't exist at that time."""

    def __init__(self, order_id: UUID, *, asked: object) -> None:
        super().__init__(f"Order {order_id} had no version {asked}.")
        self.order_id = order_id


class OrderExists(OrderError):
    """An order was placed under this id before."""

    def __init__(self, order_id: UUID, *, status: str, version: int) -> None:
        super().__init__(f"Order {order_id} exists already.")
        self.order_id = order_id
        self.status = status
        self.version = version

    @property
    def extras(self) -> dict[str, object]:
        return {"current_status": self.status, "current_version": self.version}


class OrderEnded(OrderError):
    """The order came to its end before; nothing happens to it any more."""

    def __init__(self, order_id: UUID, *, status: str, version: int) -> None:
        super().__init__(f"Order {order_id} is {status}: it has ended.")
        self.order_id = order_id
        self.status = status
        self.version = version

    @property
    def extras(self) -> dict[str, object]:
        return {"current_status": self.status, "current_version": self.version}


class ConcurrentAppend(OrderError):
    """Somebody else's event took the version that this append was for.

    Transient: who reads the order again and decides anew will succeed, or learn why not.
    """

    transient = True

    def __init__(self, order_id: UUID, *, expected: int, found: int) -> None:
        super().__init__(
            f"Order {order_id} is at version {found}, not at {expected}: it changed meanwhile."
        )
        self.order_id = order_id
        self.expected = expected
        self.found = found

    @property
    def extras(self) -> dict[str, object]:
        return {"current_version": self.found}


class IdempotencyInFlight(OrderError):
    """A request with the same key is being worked on at this moment."""

    transient = True

    def __init__(self, key: str) -> None:
        super().__init__("A request with this idempotency key is in flight; try again.")
        self.key = key


class IdempotencyKeyReused(OrderError):
    """The key was used before, for a request that asked for something else."""

    def __init__(self, key: str) -> None:
        super().__init__("This idempotency key was used for another request.")
        self.key = key
