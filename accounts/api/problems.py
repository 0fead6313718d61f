"""The HTTP responses to accounts' errors (RFC 9457): a table for the project's error handler."""

from typing import Any

from ..domain import errors
from .preconditions import VersionRequired


def problem(status: int, slug: str, title: str) -> dict[str, Any]:
    return {"status": status, "slug": slug, "title": title}


PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    errors.UserNotFound: problem(404, "not-found", "Not found"),
    errors.InvalidField: problem(400, "validation", "The request is not valid"),
    errors.StaleVersion: problem(412, "stale-version", "Stale version"),
    errors.EmailTaken: problem(409, "email-taken", "E-mail address taken"),
    errors.CreditLimitBelowReserved: problem(
        409, "credit-limit-below-reserved", "Credit limit below reserved credit"
    ),
    errors.StaffOnly: problem(403, "staff-only", "Only staff may do this"),
    errors.UserInactive: problem(403, "user-inactive", "User is deactivated"),
    errors.WeakPassword: problem(400, "validation", "The request is not valid"),
    VersionRequired: problem(428, "version-required", "Version required"),
}
