"""The HTTP responses to orders' errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..domain import errors
from ..domain.codec import BrokenStream, UnreadableEvent


def problem(status: int, slug: str, title: str, explanation: str = "") -> dict[str, Any]:
    """`explanation` says what the type means and what to do. The general types have one already."""
    return {"status": status, "slug": slug, "title": title, "explanation": explanation}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    errors.InvalidLines: problem(
        400,
        "invalid-lines",
        "The lines are not valid",
        "An order has a limited number of lines, and each line has a product, a quantity and "
        "a price within limits. The detail names the limit that is broken. Correct the lines "
        "and send the order again.",
    ),
    errors.OrderNotFound: problem(
        404,
        "order-not-found",
        "There is no such order",
        "No order has this id, or the order belongs to another customer. Check the id, and "
        "that your token is that of the customer who placed the order.",
    ),
    errors.VersionNotFound: problem(
        404,
        "version-not-found",
        "There is no such version",
        "The order exists, but not in this version or at this time. The list of its events "
        "shows which versions it has.",
    ),
    # Not the client's fault: this release can't read the stored events.
    UnreadableEvent: problem(
        500,
        "unreadable-history",
        "The order's history can't be read",
        "This release can't read an event of the order: a newer release probably wrote it. "
        "For operators: deploy the newer release again.",
    ),
    BrokenStream: problem(
        500,
        "broken-history",
        "The order's history has a gap",
        "The order's stored events have a gap, so its state is not known. No change is "
        "accepted. For operators: restore the missing events from a backup.",
    ),
    errors.OrderExists: problem(
        409,
        "order-exists",
        "The order exists already",
        "The id is in use. Nothing was changed. Place the order under a new id.",
    ),
    errors.OrderEnded: problem(
        409,
        "order-ended",
        "The order has ended",
        "The order is cancelled, rejected or expired, so it can't change any more. The "
        "member `current_status` has its status.",
    ),
    errors.ConcurrentAppend: problem(
        409,
        "order-changed",
        "The order changed concurrently",
        "Another request changed the order at the same moment. Nothing was changed by yours. "
        "Read the order and repeat the request if it still makes sense.",
    ),
    errors.IdempotencyInFlight: problem(
        409,
        "idempotency-in-flight",
        "A request with this key is in progress",
        "The first request with this `Idempotency-Key` hasn't ended. Repeat the request: its "
        "answer will be the answer to the first one.",
    ),
    errors.IdempotencyKeyReused: problem(
        422,
        "idempotency-key-reused",
        "The key belongs to another request",
        "The `Idempotency-Key` was sent before with another body. Use a new key for each new "
        "order.",
    ),
}
