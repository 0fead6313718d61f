"""Signs the tokens that all services accept, and publishes the key that verifies them.

The algorithm is ES256; `kid` is the key's RFC 7638 thumbprint. Services accept an access token
until it expires, without a request to accounts. Each use of a refresh token reads the user again.
"""

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac
from jwt.algorithms import ECAlgorithm

from ..queries import Credentials

ISSUER = "accounts"
ALGORITHM = "ES256"
ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 7 * 24 * 60 * 60


class RefreshRefused(Exception):
    """The refresh token is forged, expired, of another type or malformed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    private: EllipticCurvePrivateKey
    public: dict[str, Any]

    @property
    def kid(self) -> str:
        return str(self.public["kid"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshClaims:
    user_id: UUID
    password_mark: str

    def is_valid_for(self, credentials: Credentials) -> bool:
        """Whether the user is active and the password hasn't changed since the token was issued."""
        return credentials.is_active and constant_time_compare(
            self.password_mark, _password_mark(credentials)
        )


def issue(credentials: Credentials) -> dict[str, str]:
    """Return an access token and a refresh token. The caller must have authenticated the user."""
    mark = {"pwd": _password_mark(credentials)}
    return {
        "access": _signed(credentials, typ="access", lifetime_seconds=ACCESS_SECONDS),
        "refresh": _signed(credentials, typ="refresh", lifetime_seconds=REFRESH_SECONDS, **mark),
    }


def read_refresh(token: str) -> RefreshClaims:
    """Return the verified claims. Raises RefreshRefused."""
    try:
        claims = jwt.decode(
            token,
            _signing_key().private.public_key(),
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            options={"require": ["exp", "iat", "iss", "sub"]},
        )
        if claims.get("typ") != "refresh":
            raise RefreshRefused("not a refresh token")
        return RefreshClaims(user_id=UUID(claims["sub"]), password_mark=str(claims["pwd"]))
    except (jwt.PyJWTError, KeyError, ValueError) as exc:
        raise RefreshRefused(str(exc)) from exc


def key_set() -> dict[str, list[dict[str, Any]]]:
    """The JWKS (RFC 7517); only public keys."""
    return {"keys": [_signing_key().public]}


def _signed(credentials: Credentials, *, typ: str, lifetime_seconds: int, **more: str) -> str:
    now = int(time.time())
    key = _signing_key()
    claims = {
        "iss": ISSUER,
        "sub": str(credentials.user_id),
        "staff": credentials.is_staff,
        "typ": typ,
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": str(uuid4()),
    }
    return jwt.encode(claims | more, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})


def _password_mark(credentials: Credentials) -> str:
    hashed = credentials.password_hash
    return salted_hmac("accounts.api.tokens", hashed, algorithm="sha256").hexdigest()[:32]


def _signing_key() -> SigningKey:
    return _load_key(settings.JWT_SIGNING_KEY)


@lru_cache(maxsize=2)
def _load_key(pem: str) -> SigningKey:
    private = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise ValueError("JWT_SIGNING_KEY must be an EC P-256 private key in PEM form")
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    # RFC 7638: only the required members, in this order, without white space.
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return SigningKey(
        private=private, public=members | {"kid": kid, "use": "sig", "alg": ALGORITHM}
    )
