"""Customers who place and cancel orders over HTTP and repeat a request if a connection breaks."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import httpx

PASSWORD = "a-long-passphrase-42"
LIMIT = Decimal("1000.00")  # the credit limit of a new customer
GIVE_UP_SECONDS = 60.0  # for one request; a killed web server runs again within seconds
PAUSE_SECONDS = 0.05
CANCEL_LATER = 25  # the thread's purchases between an order and the order's cancellation


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One order to place under one Idempotency-Key, and when to cancel the order, if at all."""

    buyer: int
    key: str
    price: Decimal
    cancel: str = ""  # at once | later

    @property
    def is_beyond_any_limit(self) -> bool:
        return self.price > LIMIT


def planned(*, orders: int, buyers: int, chance: random.Random) -> list[Purchase]:
    """Returns planned purchases: a tenth are cancelled, and a tenth exceed the limit. A fifth of
    the buyers use up their credit: the order of events decides which orders are confirmed."""
    return [
        Purchase(
            buyer=(buyer := chance.randrange(buyers)),
            key=f"{chance.getrandbits(128):032x}",
            price=_price(chance, runs_out=buyer % 5 == 0, orders_each=orders // buyers),
            cancel=chance.choices(["", "at once", "later"], [90, 5, 5])[0],
        )
        for _ in range(orders)
    ]


def _price(chance: random.Random, *, runs_out: bool, orders_each: int) -> Decimal:
    if chance.random() < 0.1:
        return LIMIT + Decimal(chance.randint(1, 100_000)) / 100
    mean_cents = int(LIMIT * 100) // orders_each
    longest = mean_cents * (6 if runs_out else 1)
    return Decimal(chance.randint(1, longest)) / 100


@dataclass
class Report:
    """The acknowledged orders and cancellations, and the failed requests."""

    orders: dict[str, UUID] = field(default_factory=dict)  # by idempotency key
    cancelled: set[UUID] = field(default_factory=set)
    broken_connections: int = 0
    unavailable: int = 0  # answers 503 after which a client repeated its request
    complaints: list[str] = field(default_factory=list)


class Buyers:
    """Threads that place the planned orders, and that a test can pause with `hold()`."""

    def __init__(
        self,
        urls: dict[str, str],
        plan: Sequence[Purchase],
        *,
        buyers: int,
        again_on_503: bool = False,
    ) -> None:
        self._urls = urls
        self._again_on_503 = again_on_503  # as a client does while a database can't be reached
        self._plan = deque(plan)
        self.report = Report()
        self._state = threading.Condition()
        self._released = False
        self._busy = 0
        self._threads: list[threading.Thread] = []
        self._given_up = threading.Event()
        with httpx.Client(base_url=urls["accounts"], timeout=20) as client:
            self._bearers = [registered(client, number) for number in range(buyers)]

    @contextmanager
    def working(self, *, threads: int) -> Iterator[None]:
        """Starts the threads paused. They stop at the end of the block, even if orders are left."""
        self._threads = [
            threading.Thread(target=self._work, name=f"buyer-{number}") for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._given_up.set()
            self.go()
            for thread in self._threads:
                thread.join()

    def go(self) -> None:
        with self._state:
            self._released = True
            self._state.notify_all()

    def hold(self) -> None:
        """Pauses the threads. Returns when no request is running."""
        with self._state:
            self._released = False
            self._state.wait_for(lambda: not self._busy, timeout=GIVE_UP_SECONDS)

    @property
    def acknowledged(self) -> int:
        return len(self.report.orders)

    @property
    def left(self) -> int:
        """Returns the number of orders that no thread has started to place."""
        return len(self._plan)

    @property
    def are_done(self) -> bool:
        return not self._plan and all(not thread.is_alive() for thread in self._threads)

    def latencies(self, *, seconds: float, writes: int) -> list[float]:
        """Places at most `writes` orders for `seconds`, one by one and evenly spread. Returns
        the seconds that each order took."""
        measured: list[float] = []
        started = time.monotonic()
        with self._client() as client:
            while (now := time.monotonic()) < started + seconds:
                due = started + len(measured) * seconds / writes
                if now < due or not self._plan:
                    self._given_up.wait(max(due - now, PAUSE_SECONDS / 10))
                    continue
                purchase = self._plan.popleft()
                asked = time.perf_counter()
                self._place(client, purchase)
                measured.append(time.perf_counter() - asked)
        return measured

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._urls["orders"], timeout=20)

    def _work(self) -> None:
        to_cancel: deque[tuple[Purchase, UUID]] = deque()
        with self._client() as client:
            while (self._plan or to_cancel) and not self._given_up.is_set():
                with self._busy_when_released():
                    if self._plan:
                        self._buy(client, to_cancel)
                    elif to_cancel:
                        self._cancel(client, *to_cancel.popleft())

    @contextmanager
    def _busy_when_released(self) -> Iterator[None]:
        with self._state:
            self._state.wait_for(lambda: self._released)
            self._busy += 1
        try:
            yield
        finally:
            with self._state:
                self._busy -= 1
                self._state.notify_all()

    def _buy(self, client: httpx.Client, to_cancel: deque[tuple[Purchase, UUID]]) -> None:
        try:
            purchase = self._plan.popleft()
        except IndexError:  # another thread took the last purchase
            return
        order = self._place(client, purchase)
        if order and purchase.cancel == "at once":
            self._cancel(client, purchase, order)
        elif order and purchase.cancel:
            to_cancel.append((purchase, order))
        if len(to_cancel) > CANCEL_LATER:
            self._cancel(client, *to_cancel.popleft())

    def _place(self, client: httpx.Client, purchase: Purchase) -> UUID | None:
        answer = self._ask_until_answered(
            lambda: client.post(
                "/api/orders/",
                json={"lines": [{"sku": "tea", "quantity": 1, "unit_price": str(purchase.price)}]},
                headers={**self._bearers[purchase.buyer], "Idempotency-Key": purchase.key},
            ),
            again_on="/problems/idempotency-in-flight",
        )
        if answer is None or answer.status_code != 201:
            self._complain("placing", answer)
            return None
        order = UUID(answer.json()["id"])
        self.report.orders[purchase.key] = order
        return order

    def _cancel(self, client: httpx.Client, purchase: Purchase, order: UUID) -> None:
        answer = self._ask_until_answered(
            lambda: client.post(
                f"/api/orders/{order}/cancel/", headers=self._bearers[purchase.buyer]
            ),
            again_on="/problems/order-changed",
        )
        if answer is None or answer.status_code not in (200, 409):
            self._complain("cancelling", answer)
        elif answer.status_code == 200 or answer.json()["current_status"] == "CANCELLED":
            self.report.cancelled.add(order)

    def _ask_until_answered(
        self, ask: Callable[[], httpx.Response], *, again_on: str
    ) -> httpx.Response | None:
        """Repeats a request until an answer arrives. Returns None if none arrives in time."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = ask()
            except httpx.TransportError:
                self.report.broken_connections += 1
            else:
                if answer.status_code == 503 and self._again_on_503:
                    self.report.unavailable += 1
                elif answer.status_code != 409 or answer.json()["type"] != again_on:
                    return answer
            self._given_up.wait(PAUSE_SECONDS)
        return None

    def _complain(self, about: str, answer: httpx.Response | None) -> None:
        result = f"{answer.status_code} {answer.text[:300]}" if answer is not None else "no answer"
        self.report.complaints.append(f"{about}: {result}")


def registered(client: httpx.Client, number: int) -> dict[str, str]:
    """Registers a customer. Returns the headers that authenticate the customer."""
    email = f"buyer-{number}@example.com"
    who = {"name": f"Buyer {number}", "email": email, "password": PASSWORD}
    client.post("/api/users/", json=who).raise_for_status()
    tokens = client.post("/api/token/", json={"email": email, "password": PASSWORD})
    return {"Authorization": f"Bearer {tokens.raise_for_status().json()['access']}"}
