"""Authenticates services on the routes between services. Users have no access.

Each request has its own token: a short-lived HS256 JWT, signed with the key that the services
share, and valid only once, for this service, method, path with query, and body (as in DPoP, RFC
9449). A leaked token is useless, and a user's token is not accepted here.

The cache keeps the ids of used tokens. If the ring loses an id, or in another process without a
ring, a token works again until it expires. A table would not lose it, but each request would write
to PostgreSQL, also while the primary is away. And a repeated request changes nothing: each route
only reads, or is idempotent.
"""

import hashlib
import logging
from dataclasses import dataclass
from typing import ClassVar, Final

import jwt
from django.conf import settings
from django.core.cache import cache
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

log = logging.getLogger(__name__)

AUDIENCE: Final = "accounts"
ALGORITHM: Final = "HS256"
MAX_LIFETIME_SECONDS: Final = 30
CLAIMS: Final = ["iss", "aud", "iat", "exp", "jti", "htm", "htu", "bh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The calling service."""

    name: str

    is_authenticated: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    id: ClassVar[None] = None

    def __str__(self) -> str:
        return f"service {self.name}"


class PeerAuthentication(BaseAuthentication):
    """Reads `Authorization: Peer <token>`; without this header the request is anonymous."""

    def authenticate(self, request: Request) -> tuple[Peer, str] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"peer" or not settings.PEER_KEY:
            return None
        try:
            return Peer(name=_verify(request, token.strip())), "peer"
        except AuthenticationFailed as exc:
            log.warning("a service's token for %s is refused: %s", request.path, _reason(exc))
            raise

    def authenticate_header(self, request: Request) -> str:
        return 'Peer realm="mitosis"'


class IsPeer(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Peer)


def _verify(request: Request, token: bytes) -> str:
    """The name of the service that signed this request. Raises AuthenticationFailed."""
    try:
        claims = jwt.decode(
            token,
            settings.PEER_KEY,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=settings.JWT_LEEWAY_SECONDS,
            options={"require": CLAIMS},
        )
        lifetime = int(claims["exp"]) - int(claims["iat"])
    except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
        raise AuthenticationFailed("The token is not valid.") from exc
    expected = {
        "htm": request.method,
        "htu": request.get_full_path(),
        "bh": hashlib.sha256(request._request.body).hexdigest(),
    }
    if lifetime > MAX_LIFETIME_SECONDS or not expected.items() <= claims.items():
        raise AuthenticationFailed("The token is for another request, or is valid for too long.")
    if not _is_first_use(str(claims["jti"])):
        raise AuthenticationFailed("The token was used before.")
    return str(claims["iss"])


def _reason(refused: AuthenticationFailed) -> str:
    """For the log: more than the client learns, and no part of the token."""
    return str(refused.__cause__ or refused.detail)


def _is_first_use(token_id: str) -> bool:
    name = hashlib.sha256(token_id.encode()).hexdigest()
    # The leeway counts twice: for a clock ahead of ours at `iat`, and after `exp`.
    kept_seconds = MAX_LIFETIME_SECONDS + 2 * settings.JWT_LEEWAY_SECONDS
    return cache.add(f"peer-token:{name}", True, timeout=kept_seconds)
