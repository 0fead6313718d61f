"""A member of the staff who changes credit limits while buyers place orders."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal

import httpx

from tests.faults.buyers import LIMIT

PAUSE_SECONDS = 0.1


class Clerk:
    """Sets the credit limits of random customers. No limit exceeds a new customer's limit."""

    def __init__(self, url: str, admin: dict[str, str], *, chance: random.Random) -> None:
        self._url = url
        self._chance = chance
        with httpx.Client(base_url=url, timeout=20) as client:
            token = client.post("/api/token/", json=admin).raise_for_status().json()["access"]
            self._bearer = {"Authorization": f"Bearer {token}"}
            found = client.get("/api/users/", headers=self._bearer).raise_for_status().json()
        self._users = [one["id"] for one in found["results"] if one["name"].startswith("Buyer")]
        self.answers: dict[int, int] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        stopping = threading.Event()
        thread = threading.Thread(target=self._work, args=[stopping])
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _work(self, stopping: threading.Event) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not stopping.wait(PAUSE_SECONDS):
                with suppress(httpx.TransportError):  # the web process was killed meanwhile
                    self._set_limit(client)

    def _set_limit(self, client: httpx.Client) -> None:
        cents = self._chance.randint(0, int(LIMIT * 100))
        answer = client.patch(
            f"/api/users/{self._chance.choice(self._users)}/",
            json={"credit_limit": f"{Decimal(cents) / 100:.2f}"},
            headers={**self._bearer, "If-Match": "*"},
        )
        self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
