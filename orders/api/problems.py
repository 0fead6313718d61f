"""What the errors of orders mean over HTTP."""

from typing import Any

from ..domain.codec import BrokenStream, UnreadableEvent
from ..domain.errors import (
    ConcurrentAppend,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InvalidLines,
    OrderEnded,
    OrderExists,
    OrderNotFound,
    VersionNotFound,
)

PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    InvalidLines: {"status": 400, "slug": "invalid-lines", "title": "The lines are not valid"},
    OrderNotFound: {"status": 404, "slug": "order-not-found", "title": "There is no such order"},
    VersionNotFound: {
        "status": 404,
        "slug": "version-not-found",
        "title": "The order was not so far",
    },
    # Nothing that the caller could mend: what lies in the store can't be read by this release.
    UnreadableEvent: {
        "status": 500,
        "slug": "unreadable-history",
        "title": "The order's history can't be read",
    },
    BrokenStream: {
        "status": 500,
        "slug": "broken-history",
        "title": "The order's history has a hole",
    },
    OrderExists: {"status": 409, "slug": "order-exists", "title": "The order exists already"},
    OrderEnded: {"status": 409, "slug": "order-ended", "title": "The order has ended"},
    ConcurrentAppend: {
        "status": 409,
        "slug": "order-changed",
        "title": "The order changed at the same moment",
    },
    IdempotencyInFlight: {
        "status": 409,
        "slug": "idempotency-in-flight",
        "title": "A request with this key is in flight",
    },
    IdempotencyKeyReused: {
        "status": 422,
        "slug": "idempotency-key-reused",
        "title": "The key belongs to another request",
    },
}
