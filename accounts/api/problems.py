"""The HTTP responses to accounts' errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..domain import errors
from .preconditions import VersionRequired


def problem(status: int, slug: str, title: str, explanation: str = "") -> dict[str, Any]:
    """`explanation` says what the type means and what to do. The general types have one already."""
    return {"status": status, "slug": slug, "title": title, "explanation": explanation}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    errors.UserNotFound: problem(404, "not-found", "Not found"),
    errors.InvalidField: problem(400, "validation", "The request is not valid"),
    errors.StaleVersion: problem(
        412,
        "stale-version",
        "Stale version",
        "The user has changed since you read it, so your change could undo another one. Read "
        "the user again, then repeat the change with the new version.",
    ),
    errors.EmailTaken: problem(
        409,
        "email-taken",
        "E-mail address taken",
        "Another user has this e-mail address, possibly in another letter case. Log in as "
        "that user, or register with another address.",
    ),
    errors.CreditLimitBelowReserved: problem(
        409,
        "credit-limit-below-reserved",
        "Credit limit below reserved credit",
        "Open and confirmed orders hold more credit than the new limit. Choose a higher "
        "limit, or cancel orders first.",
    ),
    errors.StaffOnly: problem(
        403,
        "staff-only",
        "Only staff may do this",
        "The request sets a field that only staff may set, such as the credit limit. Leave "
        "these fields out; the member `fields` lists them.",
    ),
    errors.UserInactive: problem(
        403,
        "user-inactive",
        "User is deactivated",
        "A deactivated user can't change its own data. Staff can activate the user again.",
    ),
    errors.WrongPassword: problem(
        403,
        "wrong-password",
        "Wrong password",
        "A new password or a new address needs the current password of the user that makes the "
        "change, and it is missing or wrong. Send it as `current_password`. Nothing was changed.",
    ),
    errors.WeakPassword: problem(400, "validation", "The request is not valid"),
    VersionRequired: problem(
        428,
        "version-required",
        "Version required",
        "A change must name the version that it is based on. Send the version that you read "
        "in `If-Match`, or as `version` in the body.",
    ),
}
