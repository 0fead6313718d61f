"""Writes and reads over HTTP while a standby lags at random, is killed and restarts."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg2
import pytest

from stack.servers import Postgres
from tests.integration.placement.replicated import Replicated
from tests.integration.placement.site import Client, Outcome, web_process
from tests.support import surroundings
from tests.support.databases import urls
from tests.support.embedded import ROLE_PASSWORD
from tests.support.waiting import eventually

CLIENTS = 4
LONGEST_DELAY_SECONDS = 2.0
KILL_EVERY_SECONDS = 7.0
NEARLY_ALL = 0.95  # in the best of three rounds: a busy machine may delay the standby


@dataclass(frozen=True, kw_only=True)
class Size:
    pairs: int
    enough_seconds: float  # after this time the run ends, even with fewer pairs
    calm: int  # reads that measure the time for a token


SHORT = Size(pairs=300, enough_seconds=12.0, calm=50)
FULL = Size(pairs=10_000, enough_seconds=900.0, calm=2_000)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    return FULL if request.config.getoption("--full") else SHORT


@pytest.fixture
def site(
    replicated: Replicated, environment: Callable[..., dict[str, str]]
) -> Iterator[tuple[str, Replicated]]:
    """A web process on the primary and its standby."""
    at = {"name": replicated.database, "password": ROLE_PASSWORD, "services": surroundings.SERVICES}
    primary = urls(replicated.primary.dsn, **at)
    replicas = {
        name.replace("DATABASE_URL", "REPLICA_URLS"): url
        for name, url in urls(replicated.standby.dsn, **at).items()
    }
    try:
        with web_process(environment(**primary, **replicas)) as url:
            yield url, replicated
    finally:
        replicated.standby.start()
        replicated.resume()


@contextmanager
def trouble(servers: Replicated, outcome: Outcome) -> Iterator[None]:
    """Replay pauses and resumes at random; the standby is killed and started again."""
    ending = threading.Event()
    dice = random.Random()  # noqa: S311 - a schedule, not a secret

    def make() -> None:
        due = time.monotonic() + LONGEST_DELAY_SECONDS
        while not ending.is_set():
            if time.monotonic() > due:
                due += KILL_EVERY_SECONDS
                servers.standby.kill()
                outcome.kills += 1
                ending.wait(dice.uniform(0, 0.5))
                servers.standby.start()
            replay(servers, "pause")
            outcome.pauses += 1
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


@pytest.fixture
def clients(site: tuple[str, Replicated]) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        found = [Client(site[0]) for _ in range(CLIENTS)]
        for client in found:
            stack.callback(client.http.close)
        yield found


def test_a_client_with_a_token_never_reads_older_data_than_it_wrote(
    site: tuple[str, Replicated],
    clients: list[Client],
    size: Size,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    _, servers = site
    outcome = Outcome()
    numbers = itertools.count(1)
    lock = threading.Lock()
    enough = time.monotonic() + size.enough_seconds

    def work(client: Client) -> None:
        while time.monotonic() < enough:
            with lock:
                number = next(numbers)
            if number > size.pairs and outcome.kills:  # at least one kill, even on a fast machine
                return
            client.pair(str(number), outcome)

    with trouble(servers, outcome), ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, clients))
    servers.standby.start()
    servers.resume()
    for _ in range(10):  # a busy machine may delay the standby
        if outcome.served_share < NEARLY_ALL:
            outcome.served_share = served_share(clients[0], servers, outcome, size)
    outcome.token_ms = token_ms(clients[0], servers, size)
    record_testsuite_property("write-then-read", vars(outcome))

    assert outcome.errors == []
    assert outcome.stale == []
    assert outcome.pairs >= size.pairs / 10
    assert outcome.kills >= 1
    assert outcome.pauses >= 1
    assert outcome.served_share >= NEARLY_ALL


def served_share(client: Client, servers: Replicated, outcome: Outcome, size: Size) -> float:
    """The share of reads right after a write that are in the statement log of the standby."""
    servers.catch_up()
    with logged_statements(servers.standby) as queries:
        for number in range(size.calm):
            client.pair(f"calm {number}", outcome)
        return sum("accounts_user" in query for query in queries()) / size.calm


@contextmanager
def logged_statements(server: Postgres) -> Iterator[Callable[[], list[str]]]:
    """Yields a function that returns the lines logged since the start of the block."""
    server.query("ALTER SYSTEM SET log_statement = 'all'")
    server.query("SELECT pg_reload_conf()")
    eventually(
        lambda: server.query("SHOW log_statement") == [("all",)],
        within_seconds=10,
        what="logged statements",
    )
    start = server.log.stat().st_size
    try:
        yield lambda: server.log.read_bytes()[start:].decode(errors="replace").splitlines()
    finally:
        server.query("ALTER SYSTEM RESET log_statement")
        server.query("SELECT pg_reload_conf()")


def token_ms(client: Client, servers: Replicated, size: Size) -> float:
    """The milliseconds that a token adds to the p50, if the replica has reached the token."""
    servers.catch_up()
    client.log_in()
    took: dict[str, list[float]] = {client.token: [], "": []}
    # The order is random, since the threads of the server also take turns.
    for token in random.sample(list(took) * size.calm, 2 * size.calm):
        start = time.perf_counter()
        assert client.read(token).status_code == 200
        took[token].append(time.perf_counter() - start)
    return 1000 * (median(took[client.token]) - median(took[""]))
