"""HTTP to the other service: signed, in bounded time, tried again where that can help.

The token is what `accounts.api.peers` reads: tests/contracts holds the two together.
"""

import hashlib
import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import islice
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
from django.conf import settings

from outbox.pacing import paced

TIMEOUT_SECONDS: Final = 15.0  # for each answer; the other side's statements have 10
TRIES: Final = 3
PAUSE_SECONDS: Final = 0.3
TOKEN_SECONDS: Final = 30
LONGEST_BYTES: Final = 32 * 1024 * 1024


class PeerError(Exception):
    """The other service can't be asked; the message says why, in one line."""


class PeerUnavailable(PeerError):
    """It doesn't answer, or says that it can't now. It will."""

    transient = True


class PeerRefuses(PeerError):
    """It answers, and not what was asked: another release, another key, a bug."""


class Peer:
    """One service as another calls it. One connection, kept open; not shared between threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        if not settings.PEER_URLS.get(name):
            raise PeerRefuses(f"{name.upper()}_URL is not set: nobody knows where {name} is")
        if not settings.PEER_KEY:
            raise PeerRefuses("PEER_KEY is not set: the services can't know each other")
        self._address = urlsplit(settings.PEER_URLS[name])
        self._connection: HTTPConnection | None = None

    def ask(self, path: str, **question: Any) -> dict[str, Any]:
        """The JSON answer to a question that may be repeated.

        Raises PeerUnavailable after TRIES, or PeerRefuses at once.
        """
        body = json.dumps(question).encode()
        path = self._address.path.rstrip("/") + path
        failed = ""
        for _ in islice(paced(every_seconds=PAUSE_SECONDS, within_seconds=inf), TRIES):
            try:
                status, answer = self._post(path, body)
            except (OSError, HTTPException) as exc:
                self.close()
                failed = f"{self.name} doesn't answer at {self._address.netloc}: {exc}"
                continue
            if status == 200:
                return self._read(answer)
            failed = f"{self.name} answers {status} to {path}"
            if status < 500 and status != 429:
                raise PeerRefuses(failed)
        raise PeerUnavailable(" ".join(failed.split()))

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            secure = self._address.scheme == "https"
            make = HTTPSConnection if secure else HTTPConnection
            self._connection = make(self._address.netloc, timeout=TIMEOUT_SECONDS)
        self._connection.request("POST", path, body, _headers(self.name, path, body))
        response = self._connection.getresponse()
        answer = response.read(LONGEST_BYTES + 1)
        if len(answer) > LONGEST_BYTES:
            raise PeerRefuses(f"{self.name} answers with more than {LONGEST_BYTES} bytes")
        return response.status, answer

    def _read(self, answer: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(answer))
        except (ValueError, TypeError) as exc:
            raise PeerRefuses(f"{self.name} answers with something that is no JSON") from exc


def _headers(audience: str, path: str, body: bytes) -> dict[str, str]:
    now = int(time.time())
    claims = {
        "iss": "orders",
        "aud": audience,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "jti": str(uuid4()),
        "htm": "POST",
        "htu": path,
        "bh": hashlib.sha256(body).hexdigest(),
    }
    return {
        "Authorization": f"Peer {jwt.encode(claims, settings.PEER_KEY, algorithm='HS256')}",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
