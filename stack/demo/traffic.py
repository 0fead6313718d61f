"""Customers who use the shop over HTTP, at a steady rate, in a few threads."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final

from ..errors import StackError
from ..show import client
from ..show.client import Answer
from ..show.users import Customer, new_id
from .orders import Orders

CUSTOMERS: Final = 8  # how many use the shop at a time
# A registration is expensive: it computes two slow hashes.
NEW_CUSTOMER_SECONDS: Final = 5.0
TOO_DEAR: Final = "2000.00"  # above the credit of a new customer
INVALID, REUSED_KEY = 400, 422  # the statuses of refused requests


class Requests:
    """Sends the requests of several threads at one rate, and counts the answers."""

    def __init__(self, *, per_second: float) -> None:
        self.sent = self.refused = self.failed = 0
        self.failure = ""  # the last one
        self.stopping = threading.Event()
        self._interval_seconds = 1 / per_second
        self._next_at = 0.0
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        accept: int | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request when the rate permits it. Raises StackError for a status of 400 or more,
        and for another status than `accept`."""
        self._wait()
        try:
            answer = client.send(method, url, body, accept=accept, **headers)
            if accept not in (None, answer.status):
                raise StackError(f"{method} {url}: the answer is {answer.status}, not {accept}")
        except StackError as error:
            with self._lock:
                self.sent += 1
                self.failed += 1
                self.failure = str(error)
            raise
        with self._lock:
            self.sent += 1
            self.refused += answer.status >= 400
        return answer

    def _wait(self) -> None:
        with self._lock:
            self._next_at = max(self._next_at + self._interval_seconds, time.monotonic())
            seconds = self._next_at - time.monotonic()
        self.stopping.wait(max(0.0, seconds))


class Traffic:
    def __init__(self, urls: Mapping[str, str], requests: Requests, orders: Orders) -> None:
        self._urls, self._requests, self._orders = urls, requests, orders
        self._random = random.Random()  # noqa: S311
        self._customers: deque[Customer] = deque(maxlen=CUSTOMERS)
        self._next_customer_at = 0.0
        self._lock = threading.Lock()
        # With their weights. Each is the first act of a thread, so that a short demo has them all.
        self._acts: Mapping[Callable[[], None], int] = {
            self._place: 40,
            self._place_too_dear: 8,
            self._read: 30,
            self._orders.cancel_one: 14,
            self._place_nothing: 4,
            self._reuse_key: 4,
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block, customers use the shop. Its end waits for the last answers."""
        self._customers.append(self.register())
        with ThreadPoolExecutor(len(self._acts)) as pool:
            threads = [pool.submit(self._run, act) for act in self._acts]
            try:
                yield
            finally:
                self._requests.stopping.set()
        for thread in threads:
            thread.result()

    def register(self) -> Customer:
        return Customer(self._urls, send=self._requests.send)

    def place(self, customer: Customer, price: str, *, key: str = "") -> None:
        answer = customer.ask_to_place(price, key=key or new_id())
        self._orders.add(customer, answer.body["id"])

    def _run(self, act: Callable[[], None]) -> None:
        acts, weights = list(self._acts), list(self._acts.values())
        while not self._requests.stopping.is_set():
            with suppress(StackError):  # it is counted
                act()
            (act,) = self._random.choices(acts, weights)

    def _customer(self) -> Customer:
        """A customer, sometimes a new one."""
        with self._lock:
            now = time.monotonic()
            if now < self._next_customer_at:
                return self._random.choice(self._customers)
            self._next_customer_at = now + NEW_CUSTOMER_SECONDS
        customer = self.register()
        with self._lock:
            self._customers.append(customer)
        return customer

    def _price(self) -> str:
        return f"{self._random.randint(100, 2000) / 100:.2f}"

    def _place(self) -> None:
        self.place(self._customer(), self._price())

    def _place_too_dear(self) -> None:
        self.place(self._customer(), TOO_DEAR)

    def _read(self) -> None:
        customer = self._customer()
        self._random.choice([customer.orders, customer.account])()

    def _place_nothing(self) -> None:
        self._customer().ask_to_place(key=new_id(), accept=INVALID)

    def _reuse_key(self) -> None:
        customer, key = self._customer(), new_id()
        self.place(customer, self._price(), key=key)
        customer.ask_to_place(TOO_DEAR, key=key, accept=REUSED_KEY)
