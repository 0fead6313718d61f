"""Users of the application, who use only its HTTP API."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from .client import Answer, send


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


class Send(Protocol):
    """Sends one request, as `client.send` does."""

    def __call__(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        accept: int | None = None,
        **headers: str,
    ) -> Answer: ...


class Customer:
    """A new customer of the shop, who is logged in."""

    def __init__(self, urls: Mapping[str, str], *, send: Send = send) -> None:
        self._urls, self._send = urls, send
        email, password = f"{new_id()}@example.com", secrets.token_urlsafe(16)
        fields = {"name": "Ada", "email": email, "password": password}
        self.id = send("POST", f"{urls['accounts']}/api/users/", fields).body["id"]
        login = send("POST", f"{urls['accounts']}/api/token/", fields)
        self._bearer = f"Bearer {login.body['access']}"

    def account(self) -> Any:
        url = f"{self._urls['accounts']}/api/users/{self.id}/"
        return self._send("GET", url, Authorization=self._bearer).body

    def place(self, price: str) -> Any:
        """Place an order; returns it as it is now."""
        return self.ask_to_place(price, key=secrets.token_hex(8)).body

    def ask_to_place(self, *prices: str, key: str, accept: int | None = None) -> Answer:
        lines = [{"sku": "tea", "quantity": 1, "unit_price": price} for price in prices]
        return self._orders("POST", "", {"lines": lines}, accept=accept, Idempotency_Key=key)

    def order(self, order_id: str) -> Any:
        return self._orders("GET", f"{order_id}/").body

    def orders(self) -> Any:
        """The newest orders."""
        return self._orders("GET", "").body

    def events(self, order_id: str) -> Any:
        return self._orders("GET", f"{order_id}/events/").body

    def cancel(self, order_id: str) -> Any:
        return self._orders("POST", f"{order_id}/cancel/").body

    def _orders(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        accept: int | None = None,
        **headers: str,
    ) -> Answer:
        url = f"{self._urls['orders']}/api/orders/{path}"
        return self._send(method, url, body, accept=accept, Authorization=self._bearer, **headers)
