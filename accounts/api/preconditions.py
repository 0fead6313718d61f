"""Optimistic concurrency over HTTP: `If-Match` with a version (RFC 9110, 13.1.1)."""

import re

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from ..domain.state import UserState

# Weak tags (W/) are accepted although If-Match compares strongly: a compressing proxy such as nginx
# weakens the tag of a response, but the version in the tag stays exact.
VERSION_TAG = re.compile(r'(?:W/)?"([0-9]{1,10})"', re.ASCII)
NO_VERSION = 0  # versions start at 1, so version 0 is always stale


class VersionRequired(Exception):
    """A change without a version could overwrite a change that the client has never seen."""

    def __init__(self) -> None:
        super().__init__("Send If-Match with the ETag that you read, or version in the body.")


def etag(user: UserState) -> dict[str, str]:
    return {"ETag": f'"{user.version}"'}


def expected_version(request: Request, in_body: int | None) -> int | None:
    """Return the version in If-Match, else the version in the body; None for ``If-Match: *``.

    NO_VERSION for a tag that isn't a version. Raises VersionRequired if both are missing, and
    ParseError for several tags.
    """
    header = request.headers.get("If-Match")
    if header is None:
        if in_body is None:
            raise VersionRequired
        return in_body
    if header.strip() == "*":
        return None
    if "," in header:
        raise ParseError("If-Match must name one version.")
    tag = VERSION_TAG.fullmatch(header.strip())
    return int(tag[1]) if tag else NO_VERSION
