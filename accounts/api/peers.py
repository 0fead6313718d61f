"""Who may use the routes between services: a service, never a user.

Each request bears a token of its own: a JWT of HS256 under the key that the services share, short
of life, for this service, this method and path and this body (the idea is DPoP's, RFC 9449). So one
that leaks opens nothing else, and no user's token opens anything here.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Final

import jwt
from django.conf import settings
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

AUDIENCE: Final = "accounts"
ALGORITHM: Final = "HS256"
LONGEST_SECONDS: Final = 60
CLAIMS: Final = ["iss", "aud", "iat", "exp", "htm", "htu", "bh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The service that asks."""

    name: str

    is_authenticated: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    id: ClassVar[None] = None

    def __str__(self) -> str:
        return f"service {self.name}"


class PeerAuthentication(BaseAuthentication):
    """`Authorization: Peer <token>`; anything else is nobody."""

    def authenticate(self, request: Request) -> tuple[Peer, str] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"peer" or not settings.PEER_KEY:
            return None
        return Peer(name=_claimed(request, token.strip())), "peer"

    def authenticate_header(self, request: Request) -> str:
        return 'Peer realm="mitosis"'


class IsPeer(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Peer)


def _claimed(request: Request, token: bytes) -> str:
    """The service that signed this very request. Raises AuthenticationFailed."""
    try:
        claims = jwt.decode(
            token,
            settings.PEER_KEY,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": CLAIMS},
        )
        lifetime = int(claims["exp"]) - int(claims["iat"])
    except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
        raise AuthenticationFailed("The token is not valid.") from exc
    asked = {
        "htm": request.method,
        "htu": request.path,
        "bh": hashlib.sha256(request._request.body).hexdigest(),
    }
    if lifetime > LONGEST_SECONDS or any(claims[name] != value for name, value in asked.items()):
        raise AuthenticationFailed("The token is for something else.")
    return str(claims["iss"])
