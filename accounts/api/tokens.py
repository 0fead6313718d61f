"""Issues and reads tokens.

Services accept an access token until it expires, without a request to accounts. A refresh token is
valid once, and only while its family lasts (accounts.families).
"""

import time
from typing import Any
from uuid import UUID, uuid4

import jwt
from django.conf import settings

from ..families import Turn
from ..keys import ALGORITHM, LONGEST_TOKEN, current_key, find_key
from ..queries import Credentials

ISSUER = "accounts"
ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = round(LONGEST_TOKEN.total_seconds())
CLAIMS = ["iss", "aud", "sub", "iat", "exp", "fam", "turn"]  # of a refresh token


class RefreshRefused(Exception):
    """The refresh token is forged, expired, of another type or malformed."""


def issue(credentials: Credentials, turn: Turn) -> dict[str, str]:
    """Return an access token and a refresh token. The caller must have authenticated the user."""
    access = {"typ": "access", "aud": list(settings.JWT_AUDIENCES), "staff": credentials.is_staff}
    refresh = {"typ": "refresh", "aud": ISSUER, "fam": str(turn.family), "turn": turn.number}
    return {
        "access": _signed(turn.user_id, access, seconds=ACCESS_SECONDS),
        "refresh": _signed(turn.user_id, refresh, seconds=REFRESH_SECONDS),
    }


def read_refresh(token: str) -> Turn:
    """Return the turn that the token is for. Only `families.advance` knows if it was used."""
    try:
        key = find_key(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            raise RefreshRefused("no key of accounts has signed the token")
        claims = jwt.decode(
            token,
            key.private.public_key(),
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=ISSUER,
            leeway=settings.JWT_LEEWAY_SECONDS,
            options={"require": CLAIMS},
        )
        if claims.get("typ") != "refresh":
            raise RefreshRefused("not a refresh token")
        return Turn(
            family=UUID(claims["fam"]), user_id=UUID(claims["sub"]), number=int(claims["turn"])
        )
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise RefreshRefused(str(exc)) from exc


def _signed(user_id: UUID, more: dict[str, Any], *, seconds: int) -> str:
    now = int(time.time())
    key = current_key()
    claims = {
        "iss": ISSUER,
        "sub": str(user_id),
        "iat": now,
        "exp": now + seconds,
        "jti": str(uuid4()),
    }
    return jwt.encode(claims | more, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})
