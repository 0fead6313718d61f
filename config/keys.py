"""Caches accounts' public keys by `kid`. An unknown `kid` causes a new fetch."""

import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

log = logging.getLogger(__name__)

REFETCH_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 1.0  # pause after a failure, while no key is known
FETCH_TIMEOUT_SECONDS: Final = 2.0
UNUSABLE: Final = (OSError, HTTPException, ValueError, TypeError, KeyError, jwt.PyJWTError)

Document = Mapping[str, Any]  # a JWK Set, RFC 7517


class UnknownKey(Exception):
    """No published key has this `kid`."""


class KeysUnavailable(Exception):
    """The key set could not be read, so no token can be verified."""


class KeySet:
    """Keys by `kid`. An unknown `kid` reloads the keys, at most every REFETCH_SECONDS, and every
    RETRY_SECONDS until the first success. So requests don't wait for a source that doesn't answer.
    """

    def __init__(
        self, load: Callable[[], Document], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._reload_at = float("-inf")
        self._failure: Exception | None = None  # of the last attempt
        self._lock = threading.Lock()

    def key(self, kid: str | None) -> jwt.PyJWK:
        """Raises UnknownKey if no key has this `kid`, KeysUnavailable if no key was ever read."""
        if kid is None:
            raise UnknownKey("the token has no kid")
        if kid not in self._keys:
            self._refresh(kid)
        try:
            return self._keys[kid]
        except KeyError as exc:
            raise UnknownKey(kid) from exc

    def _refresh(self, kid: str) -> None:
        with self._lock:
            if kid not in self._keys and self._clock() >= self._reload_at:
                self._reload()
            if self._failure and not self._keys:
                raise KeysUnavailable from self._failure

    def _reload(self) -> None:
        before, self._failure = self._failure, None
        try:
            document = self._load()
            self._keys = {key["kid"]: jwt.PyJWK(key, "ES256") for key in document["keys"]}
        except UNUSABLE as exc:
            self._failure = exc
            if repr(exc) != repr(before):  # a repeated failure is logged once
                log.warning("the key set of accounts can't be read: %r", exc)
        pause = RETRY_SECONDS if self._failure and not self._keys else REFETCH_SECONDS
        self._reload_at = self._clock() + pause


def load_from(source: str) -> Document:
    """Read a JWK Set from a file, or fetch it from a URL within FETCH_TIMEOUT_SECONDS."""
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=FETCH_TIMEOUT_SECONDS) as response:  # noqa: S310 - checked
            return dict(json.load(response))
    return dict(json.loads(Path(source).read_text(encoding="utf-8")))


def public_set(signing_key: str) -> Document:
    """The JWK Set with this PEM key's public part; `kid` is its RFC 7638 thumbprint."""
    private = load_pem_private_key(signing_key.encode(), password=None)
    if not isinstance(private, EllipticCurvePrivateKey):
        raise TypeError("JWT_SIGNING_KEY is not an elliptic curve key")
    key = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    kid = thumbprint(key)
    return {"keys": [{**key, "kid": kid, "use": "sig", "alg": "ES256"}]}


def thumbprint(key: Mapping[str, Any]) -> str:
    """The RFC 7638 thumbprint: base64url of a SHA-256 of the required members, without padding."""
    members = {name: key[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return urlsafe_b64encode(sha256(canonical).digest()).rstrip(b"=").decode()


@cache
def key_set() -> KeySet:
    """This process's key set: from JWKS if set, else derived from its own signing key."""
    if settings.JWKS_SOURCE:
        return KeySet(lambda: load_from(settings.JWKS_SOURCE))
    return KeySet(lambda: public_set(settings.JWT_SIGNING_KEY))
