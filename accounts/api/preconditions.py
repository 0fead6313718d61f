"""Optimistic concurrency over HTTP: the version that a change is based on (RFC 9110, 13.1.1)."""

import re

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from ..domain.state import UserState

# W/ though a match ought to be strong: a proxy that compresses weakens the tag on its way out
# (nginx does), and the version in it is as good as before.
VERSION_TAG = re.compile(r'(?:W/)?"([0-9]{1,10})"', re.ASCII)
NO_VERSION = 0  # versions begin at 1, so this one is always stale


class VersionRequired(Exception):
    """A change without a version could overwrite another that its sender never saw."""

    def __init__(self) -> None:
        super().__init__("Send If-Match with the ETag that you read, or version in the body.")


def etag(user: UserState) -> dict[str, str]:
    return {"ETag": f'"{user.version}"'}


def expected_version(request: Request, in_body: int | None) -> int | None:
    """The version that If-Match names, else the body's; None stands for ``If-Match: *``.

    A tag that no version of a user can have gives a version that never matches. Raises
    VersionRequired, and ParseError for several tags: a change is based on one version.
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
