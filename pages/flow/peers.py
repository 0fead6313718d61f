"""Signed requests for the status of another deployment, and their verification.

Both sides are here, because every deployment asks and answers. A request has its own token, a
short-lived HS256 JWT that is signed with PEER_KEY and valid only once, for this service, path with
query, and body. The cache keeps the ids of used tokens, as in accounts/api/peers.py.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from outbox.trace_context import traceparent

log = logging.getLogger(__name__)

ALGORITHM: Final = "HS256"
TIMEOUT_SECONDS: Final = 1.5  # a page waits for it
TOKEN_SECONDS: Final = 30
MAX_BYTES: Final = 4 * 1024 * 1024
CLAIMS: Final = ["iss", "aud", "iat", "exp", "jti", "htm", "htu", "bh"]


class PeerAway(Exception):
    """The other deployment gave no usable answer; the message says why in one line."""


def others() -> Iterator[str]:
    """The services of other deployments that have an address."""
    for name, url in settings.PEER_URLS.items():
        if url and name not in settings.SERVICES:
            yield name


def ask(name: str, path: str, **question: Any) -> dict[str, Any]:
    """The JSON answer of a service in another deployment. Raises PeerAway."""
    if not settings.PEER_KEY:
        raise PeerAway("PEER_KEY is not set; set it to the same key in both deployments")
    address = urlsplit(settings.PEER_URLS[name])
    path = address.path.rstrip("/") + path
    body = json.dumps(question).encode()
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.netloc, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", path, body, _headers(name, path, body))
        response = connection.getresponse()
        answer = response.read(MAX_BYTES)
    except (OSError, HTTPException) as exc:
        raise PeerAway(f"{name} doesn't answer at {address.netloc}: {exc}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise PeerAway(f"{name} answers {response.status} to {path}")
    try:
        return dict(json.loads(answer))
    except (ValueError, TypeError) as exc:
        raise PeerAway(f"{name} answers with something other than JSON") from exc


def _headers(audience: str, path: str, body: bytes) -> Mapping[str, str]:
    now = int(time.time())
    claims = {
        "iss": settings.SERVICES[0],
        "aud": audience,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "jti": str(uuid4()),
        "htm": "POST",
        "htu": path,
        "bh": hashlib.sha256(body).hexdigest(),
    }
    return {
        "Authorization": f"Peer {jwt.encode(claims, settings.PEER_KEY, algorithm=ALGORITHM)}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        **({"traceparent": trace} if (trace := traceparent.get()) else {}),
    }


def is_signed(request: HttpRequest) -> bool:
    """Whether a service with PEER_KEY signed this request for this deployment."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "peer" or not settings.PEER_KEY:
        return False
    try:
        _verify(request, token.strip())
    except jwt.InvalidTokenError as exc:
        # No text of an error has a part of the token.
        log.warning("a service's token for %s is refused: %s", request.path, exc)
        return False
    return True


def _verify(request: HttpRequest, token: str) -> None:
    """Use the token up. Raises InvalidTokenError, also for a token of another request."""
    try:
        claims = jwt.decode(
            token,
            settings.PEER_KEY,
            algorithms=[ALGORITHM],
            audience=list(settings.SERVICES),
            leeway=settings.JWT_LEEWAY_SECONDS,
            options={"require": CLAIMS},
        )
        lifetime = int(claims["exp"]) - int(claims["iat"])
    except (ValueError, TypeError) as exc:
        raise jwt.InvalidTokenError("It is malformed.") from exc
    expected = {
        "htm": request.method,
        "htu": request.get_full_path(),
        "bh": hashlib.sha256(request.body).hexdigest(),
    }
    if lifetime > TOKEN_SECONDS or not expected.items() <= claims.items():
        raise jwt.InvalidTokenError("It is for another request, or is valid for too long.")
    used = hashlib.sha256(str(claims["jti"]).encode()).hexdigest()
    kept_seconds = TOKEN_SECONDS + 2 * settings.JWT_LEEWAY_SECONDS
    if not cache.add(f"peer-token:{used}", True, timeout=kept_seconds):
        raise jwt.InvalidTokenError("It was used before.")


class PeerScheme(BaseAuthentication):
    """Names the scheme in the 401 of a request without a valid signature."""

    def authenticate(self, request: Request) -> None:
        return None

    def authenticate_header(self, request: Request) -> str:
        return 'Peer realm="mitosis"'
