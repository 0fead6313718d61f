"""Reads lists of orders with customers' names, in a separate process of orders.

The argument is JSON. `tests.benchmarks.lab.access` starts this process.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

ORDERS: Final = 50
PAGE: Final = 100  # users; there is also an administrator
TIMEOUT_SECONDS: Final = 5.0
WAYS: Final = ("single", "batched", "copy")


class Accounts:
    """An HTTP client of accounts, with one connection that stays open."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
        self._headers = {"Content-Type": "application/json"}

    def log_in(self, email: str, password: str) -> None:
        tokens = self._ask("POST", "/api/token/", {"email": email, "password": password})
        self._headers["Authorization"] = f"Bearer {tokens['access']}"

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Raises OSError or HTTPException if accounts doesn't answer."""
        try:
            text = None if body is None else json.dumps(body)
            self._connection.request(method, path, text, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException):
            self._connection.close()  # the next request connects again
            raise
        if response.status != 200:
            raise HTTPException(f"{response.status} for {path}")
        return json.loads(answer)


def main(question: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    if users := question.get("place"):
        return _place(users)
    accounts = Accounts(question["accounts"])
    with suppress(OSError, HTTPException):  # while accounts is stopped, only the copy answers
        accounts.log_in(question["email"], question["password"])
    found: dict[str, dict[str, Any]] = {way: {"ms": [], "failed": 0} for way in WAYS}
    ways = _ways(accounts)
    for number in range(question["lists"] + 1):  # the first lists warm up connections and caches
        for way in WAYS:
            started = time.perf_counter()
            try:
                names = ways[way]()
            except (OSError, HTTPException):
                names = []
            took = (time.perf_counter() - started) * 1000
            complete = len(names) == ORDERS and all(names)
            if number:
                found[way]["ms"].append(round(took, 3))
                found[way]["failed"] += not complete
    return found


def _ways(accounts: Accounts) -> dict[str, Callable[[], list[str]]]:
    from orders import queries

    def single() -> list[str]:
        return [
            accounts.get(f"/api/users/{order.user_id}/")["name"]
            for order in queries.orders().order_by("-id")[:ORDERS]
        ]

    def batched() -> list[str]:
        orders = list(queries.orders().order_by("-id")[:ORDERS])
        users = accounts.get(f"/api/users/?page_size={PAGE}")["results"]
        names = {user["id"]: user["name"] for user in users}
        return [names[str(order.user_id)] for order in orders]

    def copy() -> list[str]:
        found = queries.orders_with_customers().order_by("-id")[:ORDERS]
        return [order.customer_name for order in found]  # type: ignore[attr-defined]

    return {"single": single, "batched": batched, "copy": copy}


def _place(users: list[str]) -> dict[str, Any]:
    """Places an order for each user."""
    from uuid import UUID

    from uuid_utils.compat import uuid7

    from orders import handlers
    from orders.domain.commands import PlaceOrder
    from orders.domain.lines import Line

    lines = (Line(sku="apple", quantity=3, unit_price=Decimal("0.50")),)
    for user in users:
        handlers.place_order(PlaceOrder(order_id=uuid7(), user_id=UUID(user), lines=lines))
    return {"placed": len(users)}


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
