"""The HTTP responses to orders' errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..domain import errors
from ..domain.codec import BrokenStream, UnreadableEvent


def problem(status: int, slug: str, title: str) -> dict[str, Any]:
    return {"status": status, "slug": slug, "title": title}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    errors.InvalidLines: problem(400, "invalid-lines", "The lines are not valid"),
    errors.OrderNotFound: problem(404, "order-not-found", "There is no such order"),
    errors.VersionNotFound: problem(404, "version-not-found", "There is no such version"),
    # Not the client's fault: this release can't read the stored events.
    UnreadableEvent: problem(500, "unreadable-history", "The order's history can't be read"),
    BrokenStream: problem(500, "broken-history", "The order's history has a gap"),
    errors.OrderExists: problem(409, "order-exists", "The order exists already"),
    errors.OrderEnded: problem(409, "order-ended", "The order has ended"),
    errors.ConcurrentAppend: problem(409, "order-changed", "The order changed concurrently"),
    errors.IdempotencyInFlight: problem(
        409, "idempotency-in-flight", "A request with this key is in progress"
    ),
    errors.IdempotencyKeyReused: problem(
        422, "idempotency-key-reused", "The key belongs to another request"
    ),
}
