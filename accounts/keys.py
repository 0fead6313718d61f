"""The keys that sign tokens, and the key set that verifies them.

The algorithm is ES256; `kid` is a key's RFC 7638 thumbprint. JWT_SIGNING_KEY has one key or more,
as PEM blocks. A line before a block says when its key starts to sign:

    Signs from: 2026-11-29T10:15:00+00:00
    -----BEGIN PRIVATE KEY-----

A block without this line signs from the beginning. Other programs ignore the line (RFC 7468, 5.2).
All keys are published. The newest key whose time has come signs, in every process from the same
time. So every verifier knows a key before it signs, and the tokens of a replaced key stay valid.
"""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.utils import timezone
from jwt.algorithms import ECAlgorithm

log = logging.getLogger(__name__)

ALGORITHM: Final = "ES256"
LONGEST_TOKEN: Final = timedelta(days=7)  # a key is published for as long after it has signed
START: Final = datetime(1970, 1, 1, tzinfo=UTC)
BLOCK: Final = re.compile(
    r"^(?:Signs from: *(?P<time>.+?) *\r?\n)?"
    r"(?P<pem>-----BEGIN (?P<kind>(?:EC )?PRIVATE KEY)-----.+?-----END (?P=kind)-----)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class SigningKey:
    private: ec.EllipticCurvePrivateKey
    signs_from: datetime = START

    @cached_property
    def public(self) -> dict[str, Any]:
        """The public key as a JWK (RFC 7517)."""
        jwk = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        # RFC 7638: only the required members, in this order, without white space.
        members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
        digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
        kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return members | {"kid": kid, "use": "sig", "alg": ALGORITHM}

    @property
    def kid(self) -> str:
        return str(self.public["kid"])


def signing_keys() -> Sequence[SigningKey]:
    """The keys by the time from which they sign. The file is read again, so that a rotation needs
    no restart. While the file can't be used, the keys that were read last stay in use."""
    return _KeyFile.of(settings.JWT_SIGNING_KEY_FILE, settings.JWT_SIGNING_KEY).keys()


def current_key() -> SigningKey:
    """The key that signs now."""
    return signing(signing_keys(), at=timezone.now())


def find_key(kid: object) -> SigningKey | None:
    return next((key for key in signing_keys() if key.kid == kid), None)


def key_set() -> dict[str, list[dict[str, Any]]]:
    """The JWKS (RFC 7517); only public keys."""
    return public_set(signing_keys())


def public_set(keys: Sequence[SigningKey]) -> dict[str, list[dict[str, Any]]]:
    return {"keys": [key.public for key in keys]}


def signing(keys: Sequence[SigningKey], *, at: datetime) -> SigningKey:
    """The key that signs at this time: the newest that has started, else the first that will."""
    return next((key for key in reversed(keys) if key.signs_from <= at), keys[0])


def new_key(*, signs_from: datetime) -> SigningKey:
    return SigningKey(ec.generate_private_key(ec.SECP256R1()), signs_from)


@lru_cache(maxsize=4)
def parse(text: str) -> tuple[SigningKey, ...]:
    """The keys in this text, by the time from which they sign. Raises ValueError."""
    keys = [_key(found["pem"], found["time"]) for found in BLOCK.finditer(text)]
    if not keys:
        raise ValueError("JWT_SIGNING_KEY has no private key in PEM form")
    if len({key.kid for key in keys}) < len(keys):
        raise ValueError("JWT_SIGNING_KEY has the same key twice")
    return tuple(sorted(keys, key=lambda key: key.signs_from))


def written(keys: Sequence[SigningKey]) -> str:
    """The text that `parse` reads."""
    blocks = []
    for key in keys:
        pem = key.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        line = "" if key.signs_from == START else f"Signs from: {key.signs_from.isoformat()}\n"
        blocks.append(line + pem)
    return "".join(blocks)


def _key(pem: str, time: str | None) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(pem.encode(), password=None)
    except (TypeError, UnsupportedAlgorithm) as exc:  # it has a password, or an unknown curve
        raise ValueError(f"JWT_SIGNING_KEY: {exc}") from exc
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise ValueError("JWT_SIGNING_KEY must have EC P-256 private keys")
    signs_from = datetime.fromisoformat(time) if time else START
    if signs_from.tzinfo is None:
        raise ValueError(f"JWT_SIGNING_KEY: Signs from: {time} has no time zone")
    return SigningKey(private, signs_from)


class _KeyFile:
    def __init__(self, path: str, text: str) -> None:
        self._path = Path(path) if path else None
        self._keys = parse(text)  # at the start of the process
        self._failure = ""

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, path: str, text: str) -> "_KeyFile":
        return cls(path, text)

    def keys(self) -> Sequence[SigningKey]:
        if self._path:
            try:
                self._keys, failure = parse(self._path.read_text(encoding="utf-8")), ""
            except (OSError, ValueError) as exc:
                failure = str(exc)
            if failure and failure != self._failure:  # a repeated failure is logged once
                log.error("%s isn't usable, so the keys stay the same: %s", self._path, failure)
            self._failure = failure
        return self._keys
