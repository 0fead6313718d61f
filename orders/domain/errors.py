"""The errors of orders' commands.

`extras` are additional members of the response (never `status`, which is the HTTP status
in RFC 9457).
"""

from uuid import UUID


class OrderError(Exception):
    """Base of all errors of orders."""

    @property
    def extras(self) -> dict[str, object]:
        return {}


class InvalidLines(OrderError):
    """The lines break a limit; the message says which. `line` counts from 1."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class OrderNotFound(OrderError):
    """The order is unknown, or hidden from the caller."""

    def __init__(self, order_id: UUID) -> None:
        super().__init__(f"There is no order {order_id}.")
        self.order_id = order_id


class VersionNotFound(OrderError):
    """The order has no version with this number, or didn't exist at this time."""

    def __init__(self, order_id: UUID, *, asked: object) -> None:
        super().__init__(f"Order {order_id} had no version {asked}.")
        self.order_id = order_id


class WrongStatus(OrderError):
    """Base of errors that report the order's current status and version."""

    message = ""

    def __init__(self, order_id: UUID, *, status: str, version: int) -> None:
        super().__init__(self.message.format(order_id=order_id, status=status))
        self.order_id = order_id
        self.status = status
        self.version = version

    @property
    def extras(self) -> dict[str, object]:
        return {"current_status": self.status, "current_version": self.version}


class OrderExists(WrongStatus):
    """Another order with this id exists."""

    message = "Order {order_id} exists already."


class OrderEnded(WrongStatus):
    """The order has ended, so it can't change."""

    message = "Order {order_id} is {status}: it has ended."


class ConcurrentAppend(OrderError):
    """A concurrent append used the version first.

    Transient: a retry reads the order again, and succeeds or fails with a permanent error.
    """

    transient = True

    def __init__(self, order_id: UUID, *, expected: int, found: int) -> None:
        super().__init__(
            f"Order {order_id} is at version {found}, not {expected}: it changed concurrently."
        )
        self.order_id = order_id
        self.expected = expected
        self.found = found

    @property
    def extras(self) -> dict[str, object]:
        return {"current_version": self.found}


class IdempotencyInFlight(OrderError):
    """Another request with the same key is in progress."""

    transient = True

    def __init__(self, key: str) -> None:
        super().__init__("A request with this idempotency key is in progress; try again.")
        self.key = key


class IdempotencyKeyReused(OrderError):
    """The key was used before for another request."""

    def __init__(self, key: str) -> None:
        super().__init__("This idempotency key was used for another request; use a new key.")
        self.key = key
