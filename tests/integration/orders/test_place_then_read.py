"""Place an order, then list the orders: over HTTP, with the processes used in production."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from uuid_utils.compat import uuid7

from outbox.partitions import partition_of
from outbox.streams import Streams
from placement.replicas.tokens import HEADER
from tests.integration.orders.test_api import LINES
from tests.support.embedded import access_token
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually
from tests.support.web import web_server

pytestmark = pytest.mark.timeout(1800)

PAIRS, FULL_PAIRS = 200, 10_000
ENOUGH_SECONDS = 40.0  # the test ends after this time, except with --full
RELAYED = 200  # the number of orders that measure only the time to the streams


@contextmanager
def running(environment: dict[str, str], *commands: tuple[str, ...]) -> Iterator[None]:
    processes = [
        subprocess.Popen([sys.executable, "-W", "ignore", *command], cwd=CHECKOUT, env=environment)
        for command in commands
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


@pytest.fixture
def site(
    environment: Callable[..., dict[str, str]], streams: Streams, settings: Any
) -> Iterator[str]:
    web = ("--threads", "2", "--log-level", "warning", "--access-logfile", os.devnull)
    variables = environment(STREAMS_URL=settings.OUTBOX_STREAMS_URL, THROTTLE_USER="1000000/s")
    consume = ("manage.py", "outbox", "consume", "--consumer", "order_view")
    with (
        running(variables, ("manage.py", "outbox", "relay", "orders"), consume),
        web_server(variables, *web) as url,
    ):
        yield url


@dataclass
class Buyer:
    """A customer that places orders and lists them, with the token in the header."""

    http: httpx.Client
    misses: list[str] = field(default_factory=list)
    late: int = 0  # the number of 503 answers
    read_ms: list[float] = field(default_factory=list)
    relay_ms: list[float] = field(default_factory=list)

    def place(self) -> httpx.Response:
        answer = self.http.post(
            "/api/orders/", json={"lines": LINES}, headers={"Idempotency-Key": str(uuid4())}
        )
        self.http.cookies.clear()
        assert answer.status_code == 201, answer.text
        return answer

    def pair(self) -> None:
        placed = self.place()
        started = time.perf_counter()
        read = self._read(placed.headers[HEADER])
        self.read_ms.append((time.perf_counter() - started) * 1000)
        newest = read.json()["results"][0]["id"]
        if newest != placed.json()["id"]:
            self.misses.append(f"{newest} instead of {placed.json()['id']}")

    def _read(self, token: str) -> httpx.Response:
        for _ in range(60):
            answer = self.http.get("/api/orders/?page_size=1", headers={HEADER: token})
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                return answer
            self.late += 1
        raise AssertionError(answer.text)

    def relay(self, streams: Streams) -> None:
        """Measure the time from the answer until the event is in its stream."""
        tops = dict.fromkeys(range(streams.partitions), "0-0") | dict(streams.cursor("orders").tops)
        placed = self.place()
        started = time.perf_counter()
        mine = partition_of(placed.json()["id"], partitions=streams.partitions)
        eventually(
            lambda: streams.read("orders", {mine: tops[mine]}, count=1, block_seconds=1),
            within_seconds=30,
            what="the event is in its stream",
        )
        self.relay_ms.append((time.perf_counter() - started) * 1000)


def percentiles(values: list[float]) -> str:
    ordered = sorted(values)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def test_a_placed_order_is_in_the_next_list(
    site: str,
    streams: Streams,
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, Any], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_full = request.config.getoption("--full")
    pairs = FULL_PAIRS if is_full else PAIRS
    enough = time.monotonic() + (1e9 if is_full else ENOUGH_SECONDS)
    bearer = {"Authorization": f"Bearer {access_token(uuid7())}"}
    with httpx.Client(base_url=site, timeout=20, headers=bearer) as http:
        buyer = Buyer(http)
        for _ in range(pairs):
            if time.monotonic() > enough:
                break
            if len(buyer.read_ms) % 5 == 0 and len(buyer.relay_ms) < RELAYED:
                buyer.relay(streams)
            buyer.pair()
    summary = (
        f"{len(buyer.read_ms)} pairs, {len(buyer.misses)} misses, {buyer.late} times 503;"
        f" read {percentiles(buyer.read_ms)}; relay alone {percentiles(buyer.relay_ms)};"
        f" load {os.getloadavg()[0]:.1f}"
    )
    record_testsuite_property("place-then-read", summary)
    with capsys.disabled():
        sys.stdout.write(f"\nplace then read: {summary}\n")
    assert buyer.misses == []
    assert len(buyer.read_ms) >= (pairs if is_full else pairs / 20)
