"""The HTTP responses to the lab's errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..event_driven import TooManyWriters
from ..users import UserExists, UserNotFound
from ..ways import UnknownVariant, UnknownWay


def problem(status: int, slug: str, title: str) -> dict[str, Any]:
    return {"status": status, "slug": slug, "title": title}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    UserNotFound: problem(404, "not-found", "Not found"),
    UserExists: problem(409, "user-exists", "The id is in use"),
    TooManyWriters: problem(409, "too-many-writers", "Too many concurrent writers"),
    UnknownWay: problem(404, "unknown-way", "Unknown way"),
    UnknownVariant: problem(400, "unknown-variant", "Unknown variant"),
}
