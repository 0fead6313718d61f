"""The types of problem documents, explained at `/problems/<type>/`.

A service explains the types of its own errors in its table `<service>.api.problems.PROBLEMS`.
"""

from collections.abc import Mapping
from typing import Final, TypedDict

from config.problems import table


class ProblemType(TypedDict):
    status: int
    title: str
    explanation: str  # what it means, and what to do


def _type(status: int, title: str, explanation: str) -> ProblemType:
    return {"status": status, "title": title, "explanation": explanation}


GENERAL: Final[Mapping[str, ProblemType]] = {
    "bad-request": _type(
        400,
        "The request can't be understood",
        "The server can't read the request: its body is incomplete, or a value in the address "
        "has a form that isn't allowed. Correct the request; the same one fails again.",
    ),
    "parse-error": _type(
        400,
        "The body can't be read",
        "The body doesn't have the format that its Content-Type names, such as JSON. The "
        "detail names the place. Correct the body.",
    ),
    "validation": _type(
        400,
        "The request is not valid",
        "Some fields are missing or wrong. The member `errors` has the messages of each "
        "field. Correct these fields and send the request again.",
    ),
    "not-authenticated": _type(
        401,
        "Log in first",
        "The request has no credentials. Get an access token from POST /api/token/ of "
        "accounts and send it as `Authorization: Bearer`. Staff may log in to the admin.",
    ),
    "authentication-failed": _type(
        401,
        "The credentials are not valid",
        "The token is expired or malformed, or the e-mail address or the password is wrong. "
        "Refresh the token with POST /api/token/refresh/, or log in again.",
    ),
    "permission-denied": _type(
        403,
        "You may not do this",
        "You are known, but this belongs to another user or to staff. Log in as a user that "
        "may do it.",
    ),
    "csrf": _type(
        403,
        "The form has expired",
        "The form's token doesn't belong to your session: you logged in or out after the page "
        "was loaded, or the browser sends no cookies. Nothing was changed. Load the page "
        "again and send the form again.",
    ),
    "not-found": _type(
        404,
        "There is nothing here",
        "No page or row has this address, or you may not see it. In two deployments, each "
        "service has its own addresses: an order isn't found at accounts.",
    ),
    "method-not-allowed": _type(
        405,
        "This address doesn't support the method",
        "The address exists, but not with this HTTP method. The header `Allow` lists the "
        "methods that it supports.",
    ),
    "not-acceptable": _type(
        406,
        "There is no such representation",
        "The header `Accept` names only media types that this address doesn't have. Ask for "
        "application/json.",
    ),
    "request-timeout": _type(
        408,
        "The request was too slow",
        "The server waits 20 seconds for a whole request. Send the request again, on a better line "
        "or with a smaller body.",
    ),
    "length-required": _type(
        411,
        "The length of the body is missing",
        "This server can't read a body in chunks. Send the header `Content-Length`.",
    ),
    "precondition-failed": _type(
        412,
        "A precondition is false",
        "The representation isn't one that `If-Match` or `If-Unmodified-Since` allows. Read it "
        "again, then repeat the request with the new ETag.",
    ),
    "body-too-large": _type(
        413,
        "The body is too large",
        "A body has at most 2.5 MiB. Send less in one request.",
    ),
    "unsupported-media-type": _type(
        415,
        "The body has an unknown format",
        "Send JSON, with `Content-Type: application/json`.",
    ),
    "unsupported-content-coding": _type(
        415,
        "The body is compressed",
        "Send the body without a content coding such as gzip: a few kilobytes can expand to "
        "gigabytes.",
    ),
    "throttled": _type(
        429,
        "Too many requests",
        "You sent more requests than this deployment allows in a period, or too many log-ins have "
        "failed. Wait for the seconds in the header `Retry-After`.",
    ),
    "server-error": _type(
        500,
        "The server made an error",
        "The cause is in the log, not in your request. Nothing was committed, unless the error "
        "occurred after the commit. So repeat a write with the same `Idempotency-Key` or "
        "`If-Match`.",
    ),
    "unavailable": _type(
        503,
        "A server is away",
        "A database or a stream server that this request needs doesn't answer. Repeat the "
        "request after `Retry-After`. If the connection broke during a commit, the write may "
        "have happened: use the same `Idempotency-Key` or `If-Match`.",
    ),
    "keys-unavailable": _type(
        503,
        "Tokens can't be verified",
        "This service hasn't been able to fetch the public keys of accounts since it started. "
        "Repeat the request later. For operators: check JWKS and that accounts answers.",
    ),
    "projection-behind": _type(
        503,
        "Your last write can't be shown yet",
        "The list is a projection, which hasn't applied your last write within the time that a "
        "read waits. Your write is safe. Try again, or read the older state with the header "
        "`Prefer` that the detail names.",
    ),
}


def types() -> Mapping[str, ProblemType]:
    """Every type that this process can return, by its slug, in alphabetical order."""
    own = {
        entry["slug"]: ProblemType(
            status=entry["status"], title=entry["title"], explanation=entry["explanation"]
        )
        for entry in table().values()
        if entry["slug"] not in GENERAL
    }
    return dict(sorted((own | dict(GENERAL)).items()))
