"""Write, then read: over HTTP, with a standby that lags at random, dies and comes back."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg2
import pytest
from uuid_utils.compat import uuid7

from config.placement.tokens import HEADER
from config.stack.ports import LOOPBACK, free_port
from tests import surroundings
from tests.databases import urls
from tests.embedded import ROLE_PASSWORD, access_token
from tests.integration.placement.customer import PASSWORD
from tests.integration.placement.replicated import Replicated
from tests.surroundings import CHECKOUT
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)

PAIRS = 1000
ENOUGH_SECONDS = 25.0  # a busy machine does fewer
CLIENTS = 4
LONGEST_DELAY_SECONDS = 2.0
KILL_AT_SECONDS = (2.0, 9.0)


@pytest.fixture
def site(
    replicated: Replicated, environment: Callable[..., dict[str, str]]
) -> Iterator[tuple[str, Replicated]]:
    """A web process as in production, on the primary and its standby."""
    port = free_port(preferred=None)
    at = {"name": replicated.database, "password": ROLE_PASSWORD, "services": surroundings.SERVICES}
    primary = urls(replicated.primary.dsn, **at)
    replicas = {
        name.replace("DATABASE_URL", "REPLICA_URLS"): url
        for name, url in urls(replicated.standby.dsn, **at).items()
    }
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "config.wsgi:application"),
            *("--bind", f"{LOOPBACK}:{port}", "--worker-class", "gthread", "--threads", "4"),
            # A connection that the server ends for being idle fails whoever writes just then.
            *("--log-level", "warning", "--keep-alive", "300"),
        ],
        cwd=CHECKOUT,
        env=environment(**primary, **replicas),
    )
    url = f"http://{LOOPBACK}:{port}"
    try:
        eventually(lambda: _answers(url), within_seconds=40, what="the site answers")
        yield url, replicated
    finally:
        server.terminate()
        server.wait(20)
        replicated.standby.start()
        replicated.resume()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz/live").status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Told:
    pairs: int = 0
    stale: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kills: int = 0
    pauses: int = 0


class Client:
    """One user who renames itself and looks; the token travels in the header alone."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=20)
        body = {"name": "0", "email": f"{uuid7()}@example.com", "password": PASSWORD}
        user = self.http.post("/api/users/", json=body)
        assert user.status_code == 201, user.text
        self.path, self.version = f"/api/users/{user.json()['id']}/", 1
        self.http.headers["Authorization"] = f"Bearer {access_token(user.json()['id'])}"
        self.token = ""

    def pair(self, name: str, told: Told) -> None:
        written = self.http.patch(
            self.path,
            json={"name": name},
            headers={"If-Match": f'"{self.version}"', HEADER: self.token},
        )
        self.http.cookies.clear()
        if written.status_code != 200:
            told.errors.append(f"write: {written.status_code} {written.text[:200]}")
            return
        self.version, self.token = written.json()["version"], written.headers[HEADER]
        read = self.http.get("/api/users/", headers={HEADER: self.token})
        if read.status_code != 200:
            told.errors.append(f"read: {read.status_code} {read.text[:200]}")
        elif (seen := read.json()["results"][0]["name"]) != name:
            told.stale.append(f"{seen} instead of {name}")
        told.pairs += 1


@contextmanager
def trouble(servers: Replicated, told: Told) -> Iterator[None]:
    """Replay pauses and resumes at random; the standby is killed and started again."""
    ending = threading.Event()
    dice = random.Random()  # noqa: S311 - a schedule, not a secret

    def make() -> None:
        due = [time.monotonic() + seconds for seconds in KILL_AT_SECONDS]
        while not ending.is_set():
            if due and time.monotonic() > due[0]:
                due.pop(0)
                servers.standby.kill()
                told.kills += 1
                ending.wait(dice.uniform(0, 0.5))
                servers.standby.start()
            replay(servers, "pause")
            told.pauses += 1
            ending.wait(dice.uniform(0, LONGEST_DELAY_SECONDS))
            replay(servers, "resume")
            ending.wait(dice.uniform(0, LONGEST_DELAY_SECONDS / 2))

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def replay(servers: Replicated, verb: str) -> None:
    with closing(psycopg2.connect(servers.standby.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_wal_replay_{verb}()")


def test_who_bears_a_token_never_reads_less_than_it_wrote(
    site: tuple[str, Replicated], record_testsuite_property: Callable[[str, Any], None]
) -> None:
    url, servers = site
    told = Told()
    numbers = iter(range(1, PAIRS + 1))
    lock = threading.Lock()

    def work(client: Client) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or time.monotonic() > enough:
                return
            client.pair(str(number), told)

    clients = [Client(url) for _ in range(CLIENTS)]
    enough = time.monotonic() + ENOUGH_SECONDS
    with trouble(servers, told), ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, clients))
    record_testsuite_property("write-then-read", vars(told))
    for client in clients:
        client.http.close()

    assert told.errors == []
    assert told.stale == []
    assert told.pairs >= PAIRS / 10
    assert told.kills >= 1
    assert told.pauses >= 1
