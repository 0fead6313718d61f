"""A client of the application's HTTP API, as any user has it."""

import http.client
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

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
    return Answer(
        status=response.status,
        headers=dict(response.getheaders()),
        body=json.loads(text),
        seconds=time.monotonic() - started_at,
    )


@dataclass(frozen=True, slots=True)
class LabUsers:
    """The users of one variant of the lab (lab/README.md)."""

    url: str  # of the way
    variant: str = ""

    def create(self, user_id: str, name: str) -> Answer:
        return send("POST", self._url(""), {"id": user_id, "name": name})

    def rename(self, user_id: str, name: str) -> Answer:
        return send("PUT", self._url(f"{user_id}/"), {"name": name})

    def get(
        self, user_id: str, *, token: str = "", stale_ok: bool = False, accept: int | None = None
    ) -> Answer:
        """Read the user, as a client that sends this token. `stale_ok`: don't wait for it."""
        prefer = "stale-ok" if stale_ok else ""
        url = self._url(f"{user_id}/")
        return send("GET", url, accept=accept, Consistency_Token=token, Prefer=prefer)

    def page(self, *, after: str, token: str) -> Answer:
        return send("GET", self._url("", after=after), Consistency_Token=token)

    def _url(self, path: str, **query: str) -> str:
        return f"{self.url}users/{path}?{urlencode({'variant': self.variant, **query})}"


def new_id() -> str:
    """The id of a new user of the lab."""
    return f"show-{secrets.token_hex(8)}"


class Customer:
    """A new customer of the shop, who is logged in."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls
        email, password = f"{new_id()}@example.com", secrets.token_urlsafe(16)
        fields = {"name": "Ada", "email": email, "password": password}
        self.id = send("POST", f"{urls['accounts']}/api/users/", fields).body["id"]
        login = send("POST", f"{urls['accounts']}/api/token/", fields)
        self._bearer = f"Bearer {login.body['access']}"

    def account(self) -> Any:
        url = f"{self._urls['accounts']}/api/users/{self.id}/"
        return send("GET", url, Authorization=self._bearer).body

    def place(self, price: str) -> Any:
        """Place an order; returns it as it is now."""
        lines = [{"sku": "tea", "quantity": 1, "unit_price": price}]
        return self._orders("POST", "", {"lines": lines}, key=secrets.token_hex(8))

    def order(self, order_id: str) -> Any:
        return self._orders("GET", f"{order_id}/")

    def events(self, order_id: str) -> Any:
        return self._orders("GET", f"{order_id}/events/")

    def cancel(self, order_id: str) -> Any:
        return self._orders("POST", f"{order_id}/cancel/")

    def _orders(self, method: str, path: str, body: object = None, *, key: str = "") -> Any:
        url = f"{self._urls['orders']}/api/orders/{path}"
        return send(method, url, body, Authorization=self._bearer, Idempotency_Key=key).body
