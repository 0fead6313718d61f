"""Write, then read: over HTTP, with a standby that lags at random, dies and comes back."""

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
from tests.integration.placement.site import Client, Told, web_process
from tests.support import surroundings
from tests.support.databases import urls
from tests.support.embedded import ROLE_PASSWORD
from tests.support.waiting import eventually

CLIENTS = 4
LONGEST_DELAY_SECONDS = 2.0
KILL_EVERY_SECONDS = 7.0
NEARLY_ALL = 0.95  # in a round, that is, in which the machine had time for the standby


@dataclass(frozen=True, kw_only=True)
class Size:
    pairs: int
    enough_seconds: float  # a busy machine does fewer
    calm: int  # reads that tell what a token costs


SHORT = Size(pairs=300, enough_seconds=12.0, calm=50)
LONG = Size(pairs=1_000, enough_seconds=30.0, calm=100)
FULL = Size(pairs=10_000, enough_seconds=900.0, calm=2_000)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    """As large as was asked for."""
    if request.config.getoption("--full"):
        return FULL
    return LONG if request.config.getoption("--long") else SHORT


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
def trouble(servers: Replicated, told: Told) -> Iterator[None]:
    """Replay pauses and resumes at random; the standby is killed and started again."""
    ending = threading.Event()
    dice = random.Random()  # noqa: S311 - a schedule, not a secret

    def make() -> None:
        due = time.monotonic() + LONGEST_DELAY_SECONDS
        while not ending.is_set():
            if time.monotonic() > due:
                due += KILL_EVERY_SECONDS
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


@pytest.fixture
def clients(site: tuple[str, Replicated]) -> Iterator[list[Client]]:
    with ExitStack() as open_ones:
        found = [Client(site[0]) for _ in range(CLIENTS)]
        for client in found:
            open_ones.callback(client.http.close)
        yield found


def test_who_bears_a_token_never_reads_less_than_it_wrote(
    site: tuple[str, Replicated],
    clients: list[Client],
    size: Size,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    _, servers = site
    told = Told()
    numbers = itertools.count(1)
    lock = threading.Lock()
    enough = time.monotonic() + size.enough_seconds

    def work(client: Client) -> None:
        while time.monotonic() < enough:
            with lock:
                number = next(numbers)
            if number > size.pairs and told.kills:  # a quick machine is done before the first
                return
            client.pair(str(number), told)

    with trouble(servers, told), ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, clients))
    servers.standby.start()
    servers.resume()
    for _ in range(3):
        if told.served_share < NEARLY_ALL:
            told.served_share = served_share(clients[0], servers, told, size)
    told.token_ms = token_ms(clients[0], servers, size)
    record_testsuite_property("write-then-read", vars(told))

    assert told.errors == []
    assert told.stale == []
    assert told.pairs >= size.pairs / 10
    assert told.kills >= 1
    assert told.pauses >= 1
    assert told.served_share >= NEARLY_ALL


def served_share(client: Client, servers: Replicated, told: Told, size: Size) -> float:
    """Of reads right after one's own write; the standby writes down what it was asked."""
    servers.catch_up()
    with noted(servers.standby) as queries:
        for number in range(size.calm):
            client.pair(f"calm {number}", told)
        return sum("accounts_user" in query for query in queries()) / size.calm


@contextmanager
def noted(server: Postgres) -> Iterator[Callable[[], list[str]]]:
    """Gives the statements that the server was sent meanwhile."""
    server.query("ALTER SYSTEM SET log_statement = 'all'")
    server.query("SELECT pg_reload_conf()")
    eventually(
        lambda: server.query("SHOW log_statement") == [("all",)], within_seconds=10, what="it notes"
    )
    begins = server.log.stat().st_size
    try:
        yield lambda: server.log.read_bytes()[begins:].decode(errors="replace").splitlines()
    finally:
        server.query("ALTER SYSTEM RESET log_statement")
        server.query("SELECT pg_reload_conf()")


def token_ms(client: Client, servers: Replicated, size: Size) -> float:
    """What bearing a token that the replica is up to adds to the p50, in any order."""
    servers.catch_up()
    client.log_in()
    took: dict[str, list[float]] = {client.token: [], "": []}
    # Not one after the other: the server's threads take turns too.
    for token in random.sample(list(took) * size.calm, 2 * size.calm):
        began = time.perf_counter()
        assert client.look(token).status_code == 200
        took[token].append(time.perf_counter() - began)
    return 1000 * (median(took[client.token]) - median(took[""]))
