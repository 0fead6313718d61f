"""Keys rotate while two deployments answer requests, with the processes of production."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import jwt
import pytest
from django.conf import LazySettings
from django.core.management import call_command

from accounts import keys
from config.keys import FAILURE_PAUSE_SECONDS, FETCH_TIMEOUT_SECONDS, PAUSE_SECONDS
from tests.integration.accounts.conftest import PASSWORD
from tests.integration.placement.site import web_process
from tests.support.meanwhile import meanwhile
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.shape("accounts", "orders"),
    pytest.mark.django_db(transaction=True),
]

CLIENTS = 4
REQUESTS_PER_SECOND = 50  # of all clients together
PATIENCE_SECONDS = 60
# A verifier reads the key set in this time, even if it fails twice, as on a busy machine.
AFTER_SECONDS = round(
    PAUSE_SECONDS + FETCH_TIMEOUT_SECONDS + 2 * (FAILURE_PAUSE_SECONDS + FETCH_TIMEOUT_SECONDS)
)
# Requests of each rotation: all that fit into the wait for the new key, and those of a second with
# it. A busy machine takes longer for them, so they are counted, and not their rate.
REQUESTS = REQUESTS_PER_SECOND * (AFTER_SECONDS + 1)


@pytest.fixture
def key_file(tmp_path: Path, settings: LazySettings) -> Path:
    path = tmp_path / "signing-keys"
    path.write_text(keys.written([keys.new_key(signs_from=keys.START)]))
    settings.JWT_SIGNING_KEY_FILE = str(path)
    return path


@pytest.fixture
def urls(key_file: Path, environment: Callable[..., dict[str, str]]) -> Iterator[dict[str, str]]:
    with ExitStack() as processes:
        signing = environment("accounts", JWT_SIGNING_KEY_FILE=str(key_file))
        accounts = processes.enter_context(web_process(signing))
        verifying = environment("orders", JWKS=f"{accounts}/.well-known/jwks.json")
        orders = processes.enter_context(web_process(verifying))
        yield {"accounts": accounts, "orders": orders}


@dataclass
class Session:
    """A client that renews its tokens all the time, and also uses its first access token."""

    urls: dict[str, str]
    ended: threading.Event
    access: str = ""
    refresh: str = ""
    kids: list[str] = field(default_factory=list)  # in the order in which they signed
    statuses: list[int] = field(default_factory=list)

    def log_in(self, who: dict[str, str]) -> None:
        with httpx.Client(base_url=self.urls["accounts"], timeout=20) as http:
            self.receive(http.post("/api/token/", json=who))
        self.first = self.access
        bearer = {"Authorization": f"Bearer {self.first}"}
        with httpx.Client(base_url=self.urls["orders"], timeout=20, headers=bearer) as http:
            eventually(
                lambda: http.get("/api/orders/").is_success,
                within_seconds=PATIENCE_SECONDS,
                what="orders has read the key set",
            )

    def receive(self, answer: httpx.Response) -> None:
        self.statuses.append(answer.status_code)
        if answer.status_code == 200:
            self.access, self.refresh = answer.json()["access"], answer.json()["refresh"]
            kid = jwt.get_unverified_header(self.access)["kid"]
            if kid not in self.kids:
                self.kids.append(kid)

    def run(self) -> None:
        number, started, every = 0, time.monotonic(), CLIENTS / REQUESTS_PER_SECOND
        with (
            httpx.Client(base_url=self.urls["accounts"], timeout=20) as accounts,
            httpx.Client(base_url=self.urls["orders"], timeout=20) as orders,
        ):
            while not self.ended.wait(started + number * every - time.monotonic()):
                number += 1
                if number % 5 == 0:
                    renew = {"refresh": self.refresh}
                    self.receive(accounts.post("/api/token/refresh/", json=renew))
                    continue
                http, path = ((accounts, "/api/users/"), (orders, "/api/orders/"))[number % 2]
                access = self.first if number % 3 == 0 else self.access
                answer = http.get(path, headers={"Authorization": f"Bearer {access}"})
                self.statuses.append(answer.status_code)


def flood(urls: dict[str, str], ended: threading.Event) -> None:
    """Send tokens of unknown keys, each of which makes a verifier want to read the key set. If it
    can't, the answer is 503."""
    with httpx.Client(timeout=20) as http:
        while not ended.wait(0.05):
            token = jwt.encode({}, "x" * 40, algorithm="HS256", headers={"kid": uuid4().hex})
            for url, path in ((urls["accounts"], "/api/users/"), (urls["orders"], "/api/orders/")):
                answer = http.get(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code in (401, 503)


def registered(urls: dict[str, str]) -> dict[str, str]:
    who = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    user = {"name": "Ada", **who}
    httpx.post(f"{urls['accounts']}/api/users/", json=user, timeout=20).raise_for_status()
    return who


def test_no_request_is_refused_while_keys_rotate(urls: dict[str, str]) -> None:
    who, ended = registered(urls), threading.Event()
    sessions = [Session(urls, ended) for _ in range(CLIENTS)]
    for session in sessions:
        session.log_in(who)

    def sent() -> int:
        return sum(len(session.statuses) for session in sessions)

    works = [*(session.run for session in sessions), lambda: flood(urls, ended)]
    with meanwhile(*works, end=ended.set):
        for number in (2, 3):
            enough = sent() + REQUESTS
            call_command("signing_keys", "rotate", "--after", str(AFTER_SECONDS))
            eventually(
                lambda number=number: {len(each.kids) for each in sessions} == {number},  # type: ignore[misc]
                within_seconds=AFTER_SECONDS + PATIENCE_SECONDS,
                what=f"key {number} signs",
            )
            enough = max(enough, sent() + REQUESTS_PER_SECOND)
            eventually(
                lambda enough=enough: sent() >= enough,  # type: ignore[misc]
                within_seconds=PATIENCE_SECONDS,
                what=f"{REQUESTS} requests, the last ones with key {number}",
            )
    assert sent() >= 2 * REQUESTS
    statuses = Counter(status for session in sessions for status in session.statuses)
    assert statuses == {200: sent()}
