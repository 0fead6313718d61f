"""How each refusal reads over HTTP (RFC 9457). The deployment's exception handler looks here."""

from typing import Any

from ..domain import errors
from .preconditions import VersionRequired

PROBLEMS: dict[type[Exception], dict[str, Any]] = {
    errors.UserNotFound: {"status": 404, "slug": "not-found", "title": "Not found"},
    errors.StaleVersion: {
        "status": 412,
        "slug": "stale-version",
        "title": "Stale version",
    },
    errors.EmailTaken: {
        "status": 409,
        "slug": "email-taken",
        "title": "E-mail address taken",
    },
    errors.CreditLimitBelowReserved: {
        "status": 409,
        "slug": "credit-limit-below-reserved",
        "title": "Credit limit below what is reserved",
    },
    errors.StaffOnly: {
        "status": 403,
        "slug": "staff-only",
        "title": "Only staff may do this",
    },
    errors.UserInactive: {
        "status": 403,
        "slug": "user-inactive",
        "title": "User is deactivated",
    },
    errors.WeakPassword: {
        "status": 400,
        "slug": "validation",
        "title": "The request is not valid",
    },
    VersionRequired: {
        "status": 428,
        "slug": "version-required",
        "title": "Version required",
    },
}
