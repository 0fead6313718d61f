"""Conditional requests (RFC 9110, 13): the version of a user is the ETag of its JSON."""

import re
from collections.abc import Callable
from typing import Final

from django.utils.http import parse_etags
from rest_framework.request import Request

from ..domain.state import UserState

# Weak tags (W/) are accepted although If-Match compares strongly: a compressing proxy such as nginx
# weakens the tag of a response, but the version in the tag stays exact.
VERSION_TAG: Final = re.compile(r'(?:W/)?"([0-9]{1,10})"', re.ASCII)
NO_VERSION: Final = 0  # versions start at 1, so version 0 is always stale


class VersionRequired(Exception):
    """A change without a version could overwrite a change that the client has never seen."""

    def __init__(self) -> None:
        super().__init__("Send If-Match with the ETag that you read, or version in the body.")


def etag(request: Request, user: UserState) -> dict[str, str]:
    """The header for a response in compact JSON. A page or an indented JSON of the same version has
    other bytes, so it must not have the same ETag."""
    is_compact_json = request.accepted_media_type == "application/json"
    return {"ETag": f'"{user.version}"'} if is_compact_json else {}


def expected_version(
    request: Request, in_body: int | None, *, current: Callable[[], int]
) -> int | None:
    """Return the version in If-Match, else the version in the body; None for ``If-Match: *``.

    Of several versions, it returns the `current` one if it is among them. NO_VERSION if no tag is a
    version. Raises VersionRequired if header and body have no version.
    """
    header = request.headers.get("If-Match")
    if header is None:
        if in_body is None:
            raise VersionRequired
        return in_body
    tags = parse_etags(header)
    if tags == ["*"]:
        return None
    versions = {int(tag[1]) for tag in map(VERSION_TAG.fullmatch, tags) if tag}
    # The handler compares again under its lock: a change in between makes this version stale.
    if len(versions) > 1 and (now := current()) in versions:
        return now
    return max(versions, default=NO_VERSION)
