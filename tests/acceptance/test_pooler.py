"""The web server behind PgBouncer in transaction mode; all other processes have a direct line.

`python -m tests.support.pgbouncer` unpacks PgBouncer if the machine has none.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from stack.environment import CHECKOUT
from tests.acceptance.people import Shop, answered, is_ready, shop_at, soon
from tests.acceptance.test_separation import environment_of
from tests.faults.books import Books
from tests.faults.buyers import Buyers, planned
from tests.faults.fire import has_settled
from tests.support import pgbouncer
from tests.support.stacks import RunningStack, own_stack
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("pooler"),
    pytest.mark.skipif(pgbouncer.program() is None, reason="PgBouncer is not installed"),
]
SERVICES = ("accounts", "orders")
KINDS = ("DATABASE_URL", "REPLICA_URLS")
POOLED = [f"{name.upper()}_{kind}" for name in SERVICES for kind in KINDS]
SEED = 20261130
ORDERS, BUYERS, THREADS = 600, 8, 8
PATIENCE_SECONDS = 300  # for a machine that runs other tests too
AWAY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Web:
    """A web server behind a pooler."""

    url: str
    pid: int
    stack: RunningStack
    pooler: pgbouncer.Pooler

    def kill_a_worker(self) -> None:
        """gunicorn starts another one."""
        os.kill(psutil.Process(self.pid).children()[0].pid, signal.SIGKILL)

    def restart_the_pooler(self) -> None:
        self.pooler.kill()
        threading.Event().wait(AWAY_SECONDS)
        self.pooler.start()

    def cut_all_sessions(self) -> None:
        """Those of the pooler, and the direct lines of relays and consumers."""
        for service in SERVICES:
            with self.stack.database(service) as ask:
                ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = current_user AND pid <> pg_backend_pid()"
                )

    def kill_relay_and_consumer(self) -> None:
        for name in ("worker", "consumer"):
            os.kill(self.stack.pids()[name], signal.SIGKILL)


FAULTS: tuple[Callable[[Web], None], ...] = (
    Web.restart_the_pooler,
    Web.kill_a_worker,
    Web.cut_all_sessions,
    Web.kill_relay_and_consumer,
    Web.restart_the_pooler,
)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with own_stack("monolith") as stack:
        yield stack


@pytest.fixture(scope="module")
def pooler(stack: RunningStack) -> Iterator[pgbouncer.Pooler]:
    """In front of the databases and replicas of a web server."""
    direct = environment_of(stack, "web")
    dsns = {name.lower(): direct[name].partition(",")[0] for name in POOLED}
    with pgbouncer.pooled(dsns) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def environment(stack: RunningStack, pooler: pgbouncer.Pooler) -> dict[str, str]:
    """The environment of a web server behind the pooler."""
    addresses = {name: pooler.addresses[name.lower()] for name in POOLED}
    return environment_of(stack, "web") | addresses | {"PLACEMENT_POOLER": "on"}


@pytest.fixture(scope="module")
def web(
    stack: RunningStack,
    pooler: pgbouncer.Pooler,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Web]:
    log = tmp_path_factory.mktemp("web") / "web.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", "127.0.0.1:0"),
        *("--config", "python:config.gunicorn", "--preload", "--no-control-socket"),
        *("--workers", "2", "--threads", "4"),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = eventually(lambda: listens_at(log), within_seconds=60, what=f"a web server: {log}")
        with httpx.Client(base_url=url, timeout=20) as client:
            soon(lambda: is_ready(client), "it is ready")
        yield Web(url=url, pid=process.pid, stack=stack, pooler=pooler)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def shop(web: Web) -> Iterator[Shop]:
    with shop_at(dict.fromkeys(SERVICES, web.url)) as shop:
        yield shop


def listens_at(log: Path) -> str:
    """The address in gunicorn's line `Listening at: http://127.0.0.1:PORT (PID)`."""
    _, _, rest = log.read_text().partition("Listening at: ")
    return rest.partition(" ")[0]


@pytest.mark.timeout(900)
def test_the_ledger_is_exact_although_pooler_and_processes_are_killed(web: Web) -> None:
    plan = planned(orders=ORDERS, buyers=BUYERS, chance=random.Random(SEED))  # noqa: S311
    urls = dict.fromkeys(SERVICES, web.url)
    buyers = Buyers(urls, plan, buyers=BUYERS, again_on_503=True)
    started = time.monotonic()
    with buyers.working(threads=THREADS):
        buyers.go()
        for number, fault in enumerate(FAULTS, start=1):
            goal = ORDERS * number // (len(FAULTS) + 1)
            _wait(lambda goal=goal: buyers.acknowledged >= goal, "buyers place orders")
            fault(web)
        _wait(lambda: buyers.are_done, "every buyer gets every answer")
    _wait(lambda: has_settled(web.stack), "all events are published and read")
    report, books = buyers.report, Books.of(web.stack)
    print(  # noqa: T201
        f"{ORDERS} orders in {time.monotonic() - started:.0f} s, {report.broken_connections} "
        f"broken connections, {report.unavailable} answers 503: {books.statuses}"
    )
    assert report.complaints == [], f"{web.stack}"
    assert books.discrepancies(plan, report) == [], f"{web.stack}"


def _wait(condition: Callable[[], object], what: str) -> None:
    eventually(condition, within_seconds=PATIENCE_SECONDS, what=what)


def test_a_client_reads_its_own_write_through_a_pooler(shop: Shop) -> None:
    ada = shop.register(name="Ada")
    for number in range(20):
        url = f"/api/users/{ada.id}/"
        user = answered(shop.accounts.get(url, headers=ada.bearer), 200)
        changed = shop.accounts.patch(
            url,
            json={"name": f"Ada {number}"},
            headers={**ada.bearer, "If-Match": f'"{user["version"]}"'},
        )
        token = {"Consistency-Token": changed.headers["Consistency-Token"]}
        assert answered(changed, 200)["name"] == f"Ada {number}"
        read = answered(shop.accounts.get(url, headers={**ada.bearer, **token}), 200)
        assert read["name"] == f"Ada {number}"


@pytest.mark.parametrize("command", [["relay", "orders", "--once"], ["consume"]])
def test_relays_and_consumers_refuse_a_pooler(
    environment: dict[str, str], command: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "outbox", *command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert "pooler in transaction mode" in done.stderr
