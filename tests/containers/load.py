"""Clients that send a steady number of requests, and the figures of each step."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from tests.faults.buyers import PASSWORD

PER_SECOND: Final = 20
BUYERS: Final = 12
PRICE: Final = "0.25"  # so that no buyer's credit of 1000.00 ends
TOKEN_SECONDS: Final = 300.0  # then a buyer logs in again; a token is valid for 900 s
THREADS: Final = 64
# A slow answer on a busy machine is an answer. A connection that isn't made at once was sent to a
# container that is gone.
TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
PATIENCE_SECONDS: Final = 60.0  # how long a request is repeated in a step with repetitions
PAUSE_SECONDS: Final = 0.5
BODY_SECONDS: Final = 6.0  # for a slow body; nginx and a service accept more


@dataclass(slots=True, kw_only=True)
class Figures:
    """What the clients saw in one step."""

    name: str
    repeats: bool  # whether a client repeats a request that was refused, or got 503
    cancels: bool  # whether clients also cancel orders, which nginx never repeats
    seconds: float = 0.0
    sent: int = 0
    repeated: int = 0
    slowest: float = 0.0  # seconds
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        repeated = f", {self.repeated} repeated" if self.repeats else ""
        return (
            f"{self.name:<34} {self.seconds:5.0f} s  {self.sent:5} requests, "
            f"{len(self.failures)} failed{repeated}, slowest {self.slowest:.1f} s"
        )


class Refused(Exception):
    """The server wasn't reached, or answered that it isn't available."""


class Load:
    """Sends PER_SECOND requests: orders with an Idempotency-Key, some with a slow body; reads with
    a token; and cancellations, in steps in which no POST may be lost."""

    def __init__(self, url: str) -> None:
        self.orders: dict[str, UUID] = {}  # by idempotency key, as acknowledged
        self.cancelled: set[UUID] = set()
        self._uncancelled: deque[tuple[UUID, dict[str, Any]]] = deque()  # with the buyer
        self.steps: list[Figures] = []
        self.without_accounts = False
        self._url = url
        # Without cookies: with them, a client reads its own writes, or gets 503 while a consumer
        # restarts.
        nothing = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT, cookies=nothing)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._buyers = [self._register(number) for number in range(BUYERS)]
        self._log_in()

    def _register(self, number: int) -> dict[str, Any]:
        who = {"name": f"Buyer {number}", "email": f"buyer-{uuid4()}@example.com"}
        made = self._client.post("/api/users/", json={**who, "password": PASSWORD})
        return {**made.raise_for_status().json(), "email": who["email"]}

    def _log_in(self) -> None:
        self._logged_in_at = time.monotonic()
        for buyer in self._buyers:
            body = {"email": buyer["email"], "password": PASSWORD}
            tokens = self._client.post("/api/token/", json=body).raise_for_status().json()
            buyer["bearer"] = {"Authorization": f"Bearer {tokens['access']}"}

    @contextmanager
    def step(self, name: str, *, repeats: bool = False, cancels: bool = False) -> Iterator[Figures]:
        """Send requests until the end of the block, and wait for their answers."""
        if time.monotonic() > self._logged_in_at + TOKEN_SECONDS:
            self._log_in()
        figures = Figures(name=name, repeats=repeats, cancels=cancels)
        self.steps.append(figures)
        self._stopping.clear()
        started_at = time.monotonic()
        sender = threading.Thread(target=self._send, args=[figures], name="load")
        sender.start()
        try:
            yield figures
        finally:
            self._stopping.set()
            sender.join()
            figures.seconds = time.monotonic() - started_at

    def _send(self, figures: Figures) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due += 1 / PER_SECOND
                pool.submit(self._ask, figures, figures.sent)
                figures.sent += 1

    def _ask(self, figures: Figures, number: int) -> None:
        started_at, key = time.monotonic(), str(uuid4())
        failure = ""
        while True:
            try:
                self._ask_once(number, key, cancels=figures.cancels)
            except Refused as exc:
                failure = str(exc)
                is_late = time.monotonic() > started_at + PATIENCE_SECONDS
                if figures.repeats and not is_late:
                    with self._lock:
                        figures.repeated += 1
                    threading.Event().wait(PAUSE_SECONDS)
                    continue
            except Exception as exc:  # noqa: BLE001 - each error is a failed request
                failure = f"{type(exc).__name__}: {exc}"
            else:
                failure = ""
            break
        taken = time.monotonic() - started_at - (BODY_SECONDS if has_slow_body(number) else 0.0)
        with self._lock:
            figures.slowest = max(figures.slowest, taken)
            if failure:
                figures.failures.append(
                    f"{time.strftime('%H:%M:%S')} after {taken:.1f} s: {failure}"
                )

    def _ask_once(self, number: int, key: str, *, cancels: bool) -> None:
        """Two of five requests place an order. Raises an error unless the answer is as expected."""
        buyer, kind = self._buyers[number % BUYERS], number % 5
        if kind == 1 and cancels and (placed := self._next_to_cancel()):
            self._cancel(*placed)
        elif kind in (0, 2):
            headers = {**buyer["bearer"], "Idempotency-Key": key}
            order = self._place(headers, has_slow_body=has_slow_body(number))
            with self._lock:
                self.orders[key] = order
            self._uncancelled.append((order, buyer))
        elif kind == 4 and not self.without_accounts:
            expect(self._request("GET", f"/api/users/{buyer['id']}/", buyer["bearer"]), 200)
        else:
            expect(self._request("GET", "/api/orders/", buyer["bearer"]), 200)

    def _place(self, headers: dict[str, str], *, has_slow_body: bool = False) -> UUID:
        lines = [{"sku": "tea", "quantity": 1, "unit_price": PRICE}]
        body = json.dumps({"lines": lines}).encode()
        headers = {
            **headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        content = slowly(body) if has_slow_body else body
        answer = self._request("POST", "/api/orders/", headers, content=content)
        expect(answer, 201)
        return UUID(answer.json()["id"])

    def _next_to_cancel(self) -> tuple[UUID, dict[str, Any]] | None:
        with self._lock:
            return self._uncancelled.popleft() if self._uncancelled else None

    def _cancel(self, order: UUID, buyer: dict[str, Any]) -> None:
        while True:
            answer = self._request("POST", f"/api/orders/{order}/cancel/", buyer["bearer"])
            if answer.status_code != 409 or answer.json()["type"] != "/problems/order-changed":
                break  # else it was confirmed meanwhile
        expect(answer, 200)
        with self._lock:
            self.cancelled.add(order)

    def _request(self, method: str, path: str, headers: dict[str, str], **more: Any) -> Any:
        try:
            answer = self._client.request(method, path, headers=headers, **more)
        except httpx.TransportError as exc:
            raise Refused(f"{method} {path}: {type(exc).__name__} {exc}") from exc
        if answer.status_code == 503:
            raise Refused(f"{method} {path}: 503 {answer.text[:200]}")
        return answer


def has_slow_body(number: int) -> bool:
    """Whether this request is an order whose body arrives slowly: one of ten requests."""
    return number % 10 == 2


def slowly(body: bytes) -> Iterator[bytes]:
    """The body in two parts, with BODY_SECONDS between them."""
    yield body[:10]
    threading.Event().wait(BODY_SECONDS)
    yield body[10:]


def expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        about = f"{answer.request.method} {answer.request.url.path}"
        raise ValueError(f"{about}: {answer.status_code} instead of {status}: {answer.text[:200]}")
