"""Signed HTTP requests to another service, with timeouts, and retries of transient errors.

`accounts.api.peers` verifies the token; tests/contracts checks that both sides agree.
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
from outbox.trace_context import traceparent

TIMEOUT_SECONDS: Final = 15.0  # per response; the other service's statement timeout is 10 s
TRIES: Final = 3
PAUSE_SECONDS: Final = 0.3
TOKEN_SECONDS: Final = 30
MAX_BYTES: Final = 32 * 1024 * 1024


class PeerError(Exception):
    """A request to another service failed; the message is one line with the reason."""


class PeerUnavailable(PeerError):
    """The service sent no response, or sent an error that may not occur again at a retry."""

    transient = True


class PeerRefused(PeerError):
    """The response is an error or unreadable: the service has another release or key, or a bug."""


class Peer:
    """A client of one service. It keeps one connection open and isn't thread-safe."""

    def __init__(
        self, name: str, *, timeout_seconds: float = TIMEOUT_SECONDS, tries: int = TRIES
    ) -> None:
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        if not settings.PEER_URLS.get(name):
            raise PeerRefused(f"{name.upper()}_URL is not set: set it to the URL of {name}")
        if not settings.PEER_KEY:
            raise PeerRefused("PEER_KEY is not set: set it to the same key in both services")
        self._address = urlsplit(settings.PEER_URLS[name])
        self._connection: HTTPConnection | None = None

    def ask(self, path: str, **question: Any) -> dict[str, Any]:
        """The JSON response to an idempotent request.

        Raises PeerUnavailable after `tries` attempts, or PeerRefused without a retry.
        """
        body = json.dumps(question).encode()
        path = self._address.path.rstrip("/") + path
        problem = ""
        for _ in islice(paced(every_seconds=PAUSE_SECONDS, within_seconds=inf), self._tries):
            try:
                status, answer = self._post(path, body)
            except (OSError, HTTPException) as exc:
                self.close()
                problem = f"{self.name} doesn't answer at {self._address.netloc}: {exc}"
                continue
            if status == 200:
                return self._parse(answer)
            problem = f"{self.name} answers {status} to {path}"
            if status < 500 and status != 429:
                raise PeerRefused(problem)
        raise PeerUnavailable(" ".join(problem.split()))

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            kind = HTTPSConnection if self._address.scheme == "https" else HTTPConnection
            self._connection = kind(self._address.netloc, timeout=self._timeout_seconds)
        self._connection.request("POST", path, body, _headers(self.name, path, body))
        response = self._connection.getresponse()
        answer = response.read(MAX_BYTES + 1)
        if len(answer) > MAX_BYTES:
            raise PeerRefused(f"{self.name} answers with more than {MAX_BYTES} bytes")
        return response.status, answer

    def _parse(self, answer: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(answer))
        except (ValueError, TypeError) as exc:
            raise PeerRefused(f"{self.name} answers with something other than JSON") from exc


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
        **({"traceparent": trace} if (trace := traceparent.get()) else {}),
    }
