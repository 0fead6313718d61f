"""Sends HTTP requests to the application, and keeps what the answers say about their source."""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import StackError
from .narration import milliseconds

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float

    @property
    def served_by(self) -> str:
        return self.headers.get("Served-By", "an unknown server")

    @property
    def version(self) -> int:
        """The version of the user; 0 if the answer has none."""
        return int(self.headers.get("Version", 0))

    @property
    def token(self) -> str:
        return self.headers.get("Consistency-Token", "")

    def __str__(self) -> str:
        took = milliseconds(self.seconds)
        if self.status >= 400:
            return f"{self.status} {self.body.get('title', '')}, in {took}"
        return f"version {self.version} from {self.served_by}, in {took}"


def send(
    method: str, url: str, body: object = None, *, accept: int | None = None, **headers: str
) -> Answer:
    """Send one request. Raises StackError without an answer, and for a status of 400 or more other
    than `accept`. An underscore in a header's name stands for a hyphen."""
    parts = urlsplit(url)
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
    content = None if body is None else json.dumps(body)
    started_at = time.monotonic()
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_SECONDS)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, content, {"Content-Type": "application/json", **sent})
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise StackError(f"{method} {url}: no answer ({error}); see ./dev status") from error
    finally:
        connection.close()
    if response.status >= 400 and response.status != accept:
        raise StackError(f"{method} {url}: the answer is {response.status} {response.reason}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise StackError(f"{method} {url}: the answer isn't JSON") from error
    return Answer(
        status=response.status,
        headers=dict(response.getheaders()),
        body=found,
        seconds=time.monotonic() - started_at,
    )
