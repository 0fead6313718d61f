"""Customers and staff that use the application only through its HTTP API."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx

from tests.support.waiting import eventually

PASSWORD = "a-long-passphrase-42"
CONFIRMED_WITHIN_SECONDS = 1.0  # the documented limit, which one test checks
PATIENCE_SECONDS = 60.0  # the limit in every other test, also on a busy machine
FINAL = {"CONFIRMED", "REJECTED", "CANCELLED", "EXPIRED", "DISOWNED"}
PROBLEM = "application/problem+json"


@dataclass(kw_only=True)
class Shop:
    """The HTTP clients of both services."""

    accounts: httpx.Client
    orders: httpx.Client

    def register(self, **fields: str) -> "Customer":
        """Registers a new customer, logs in and returns the customer."""
        user_fields = {
            "name": "Ada",
            "email": f"{uuid4().hex}@example.com",
            "password": PASSWORD,
            **fields,
        }
        user = answered(self.accounts.post("/api/users/", json=user_fields), 201)
        return Customer(shop=self, id=user["id"], email=user["email"]).log_in()

    def of(self, service: str) -> httpx.Client:
        return self.accounts if service == "accounts" else self.orders


@dataclass(kw_only=True)
class Customer:
    """A user with an account, or a staff user."""

    shop: Shop
    id: str
    email: str
    password: str = PASSWORD
    access: str = ""
    refresh: str = ""
    keys: list[str] = field(default_factory=list)

    def log_in(self) -> "Customer":
        asked = {"email": self.email, "password": self.password}
        tokens = answered(self.shop.accounts.post("/api/token/", json=asked), 200)
        self.access, self.refresh = tokens["access"], tokens["refresh"]
        return self

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access}"}

    def ask_to_place(
        self, price: str, *, quantity: int = 1, key: str | None = None, **more: Any
    ) -> httpx.Response:
        self.keys.append(key or uuid4().hex)
        return self.shop.orders.post(
            "/api/orders/",
            json={"lines": [{"sku": "tea", "quantity": quantity, "unit_price": price}], **more},
            headers={**self.bearer, "Idempotency-Key": self.keys[-1]},
        )

    def place(self, price: str, **more: Any) -> dict[str, Any]:
        return answered(self.ask_to_place(price, **more), 201)

    def cancel(self, order: dict[str, Any]) -> dict[str, Any]:
        path = f"/api/orders/{order['id']}/cancel/"
        return answered(self.shop.orders.post(path, headers=self.bearer), 200)

    def look_at(self, order: dict[str, Any]) -> dict[str, Any]:
        path = f"/api/orders/{order['id']}/"
        return answered(self.shop.orders.get(path, headers=self.bearer), 200)

    def orders(self) -> list[dict[str, Any]]:
        """Returns every order that this customer can list, from all pages."""
        found: list[dict[str, Any]] = []
        page: str | None = "/api/orders/"
        while page:
            answer = self.page_of_orders(page)
            found += answer["results"]
            page = answer["next"]
        return found

    def page_of_orders(self, path: str = "/api/orders/", **headers: str) -> dict[str, Any]:
        """A list that doesn't have the client's own write yet answers 503: a client repeats it."""

        def asked() -> httpx.Response | None:
            response = self.shop.orders.get(path, headers={**self.bearer, **headers})
            return None if response.status_code == 503 else response

        return answered(soon(asked, "the list has the client's own writes"), 200)

    def account(self) -> dict[str, Any]:
        path = f"/api/users/{self.id}/"
        return answered(self.shop.accounts.get(path, headers=self.bearer), 200)

    def reserved(self) -> Decimal:
        return Decimal(self.account()["credit_reserved"])

    def sees(
        self,
        status: str,
        of: dict[str, Any],
        *,
        within_seconds: float = PATIENCE_SECONDS,
    ) -> dict[str, Any]:
        """Waits until the order has this status, and returns the order."""
        seen: dict[str, Any] = {}

        def has_it() -> bool:
            seen.update(self.look_at(of))
            return bool(seen["status"] == status)

        what = f"order {of['id']} is {status}"
        eventually(has_it, within_seconds=within_seconds, what=what)
        return seen


@contextmanager
def shop_at(urls: dict[str, str]) -> Iterator[Shop]:
    with (
        httpx.Client(base_url=urls["accounts"], timeout=20) as accounts,
        httpx.Client(base_url=urls["orders"], timeout=20) as orders,
    ):
        yield Shop(accounts=accounts, orders=orders)


def answered(response: httpx.Response, status: int) -> dict[str, Any]:
    """Returns the JSON of a response. Fails if the response has another status."""
    assert response.status_code == status, f"{response.request.url}: {response.text[:500]}"
    found: dict[str, Any] = response.json()
    return found


def is_problem(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """Returns a response's RFC 9457 document. Fails if its status is none of these."""
    where = f"{response.request.method} {response.request.url}"
    assert response.status_code in statuses, (
        f"{where}: {response.status_code} {response.text[:500]}"
    )
    assert response.headers["Content-Type"] == PROBLEM, where
    found: dict[str, Any] = response.json()
    assert found["status"] == response.status_code, where
    assert {"type", "title", "detail", "instance"} <= found.keys(), where
    return found


def is_ready(service: httpx.Client) -> bool:
    try:
        return service.get("/healthz/ready").status_code == 200
    except httpx.TransportError:
        return False


def soon(
    condition: Callable[[], Any], what: str, *, within_seconds: float = PATIENCE_SECONDS
) -> Any:
    return eventually(condition, within_seconds=within_seconds, what=what)
