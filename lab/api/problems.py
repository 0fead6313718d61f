"""The HTTP responses to the lab's errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..event_driven import TooManyWriters
from ..users import UserExists, UserNotFound
from ..ways import UnknownVariant, UnknownWay


def problem(status: int, slug: str, title: str, explanation: str = "") -> dict[str, Any]:
    """`explanation` says what the type means and what to do. The general types have one already."""
    return {"status": status, "slug": slug, "title": title, "explanation": explanation}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    UserNotFound: problem(404, "not-found", "Not found"),
    UserExists: problem(
        409,
        "user-exists",
        "The id is in use",
        "Another user of the lab has this id. Choose another id.",
    ),
    TooManyWriters: problem(
        409,
        "too-many-writers",
        "Too many concurrent writers",
        "Other requests changed the user each time that this one tried to. Repeat it.",
    ),
    UnknownWay: problem(
        404,
        "unknown-way",
        "Unknown way",
        "The lab keeps users in three ways, and `/lab/` lists them. The address names another one.",
    ),
    UnknownVariant: problem(
        400,
        "unknown-variant",
        "Unknown variant",
        "This way has no variant of this name. `/lab/` lists the variants of each way.",
    ),
}
