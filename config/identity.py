"""Authentication by an access token of accounts, or by a staff session.

A process verifies tokens with accounts' public keys, without a call to accounts for each request.
Both methods return a `Caller`, the only user class that views see.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID

import jwt
from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from jwt.types import Options
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from config.keys import KeysUnavailable, UnknownKey, key_set

ISSUER: Final = "accounts"
ALGORITHM: Final = "ES256"
CLAIMS: Final = ["iss", "aud", "sub", "typ", "iat", "exp", "jti"]


class TokensUnverifiable(APIException):
    """The keys of accounts are unreachable, and no key that this process knows signed the token."""

    status_code = 503
    default_detail = "Tokens can't be verified at the moment; try again."
    default_code = "keys-unavailable"
    wait = 2  # seconds; DRF sends it as Retry-After


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. `id` is the user's id in accounts; None for a staff session."""

    id: UUID | None
    is_staff: bool
    name: str  # throttles count requests by name; the browsable API shows it

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True

    @property
    def pk(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class BearerAuthentication(BaseAuthentication):
    """Reads `Authorization: Bearer <access token>`. The response to an invalid token is 401."""

    def authenticate(self, request: Request) -> tuple[Caller, str] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return caller_of(token.strip()), "bearer"

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mitosis"'


def caller_of(token: bytes) -> Caller:
    """Verify a token, return its caller. Raises AuthenticationFailed or TokensUnverifiable."""
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(
            token,
            key_set().key(header.get("kid")),
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=settings.SERVICES,
            leeway=settings.JWT_LEEWAY_SECONDS,
            options=_options(token),
        )
        user_id = UUID(claims["sub"])
    except jwt.ExpiredSignatureError as exc:
        raise AuthenticationFailed("The token has expired.") from exc
    except (jwt.InvalidTokenError, UnknownKey, ValueError) as exc:
        raise AuthenticationFailed("The token is not valid.") from exc
    except KeysUnavailable as exc:
        raise TokensUnverifiable from exc
    if claims["typ"] != "access":
        raise AuthenticationFailed("The token is not an access token.")
    return Caller(id=user_id, is_staff=claims.get("staff") is True, name=str(user_id))


def _options(token: bytes) -> Options:
    """Which claims are required. Accounts of 0.2.0 signs tokens without `aud`; they are accepted
    only if TOKENS_WITHOUT_AUDIENCE is on. The signature of the claims is verified afterwards."""
    if settings.JWT_WITHOUT_AUDIENCE:
        claims = jwt.decode(token, options={"verify_signature": False})
        if "aud" not in claims:
            return {"require": [name for name in CLAIMS if name != "aud"], "verify_aud": False}
    return {"require": CLAIMS}


class StaffSessionAuthentication(SessionAuthentication):
    """Accepts the session of a staff user. Requests that change data need a CSRF token."""

    def authenticate(self, request: Request) -> tuple[Caller, str] | None:
        user = getattr(request._request, "user", None)
        if user is None or not (user.is_active and user.is_staff):
            return None
        self.enforce_csrf(request)
        return Caller(id=None, is_staff=True, name=user.get_username()), "session"


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class StaffSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = StaffSessionAuthentication
    name = "staffSession"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
