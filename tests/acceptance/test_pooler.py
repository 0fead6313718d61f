"""The web server behind PgBouncer in transaction mode; all other processes have a direct line.

`python -m tests.support.pgbouncer` unpacks PgBouncer if the machine has none.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from stack.environment import CHECKOUT
from tests.acceptance.people import Shop, answered, shop_at, soon
from tests.acceptance.test_separation import environment_of
from tests.support import pgbouncer
from tests.support.stacks import RunningStack, own_stack
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("pooler"),
    pytest.mark.skipif(pgbouncer.program() is None, reason="PgBouncer is not installed"),
]
SERVICES = ("accounts", "orders")
CUSTOMERS, ORDERS = 8, 25


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with own_stack("monolith") as stack:
        yield stack


@pytest.fixture(scope="module")
def environment(stack: RunningStack) -> Iterator[dict[str, str]]:
    """The environment of a web server whose databases and replicas are behind a pooler."""
    environment = environment_of(stack, "web")
    kinds = ("DATABASE_URL", "REPLICA_URLS")
    names = [f"{name.upper()}_{kind}" for name in SERVICES for kind in kinds]
    dsns = {name.lower(): environment[name].partition(",")[0] for name in names}
    with pgbouncer.pooled(dsns) as addresses:
        pooled = {name: addresses[name.lower()] for name in names}
        yield environment | pooled | {"PLACEMENT_POOLER": "on"}


@pytest.fixture(scope="module")
def shop(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    log = tmp_path_factory.mktemp("web") / "web.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", "127.0.0.1:0"),
        *("--config", "python:config.gunicorn", "--preload", "--no-control-socket"),
        *("--workers", "2", "--threads", "4"),
    ]
    with log.open("w") as output:
        web = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = eventually(lambda: listens_at(log), within_seconds=30, what=f"a web server: {log}")
        soon(lambda: httpx.get(f"{url}/healthz/ready").status_code == 200, "it is ready")
        with shop_at(dict.fromkeys(SERVICES, url)) as shop:
            yield shop
    finally:
        os.kill(web.pid, signal.SIGTERM)
        web.wait(20)


def listens_at(log: Path) -> str:
    """The address in gunicorn's line `Listening at: http://127.0.0.1:PORT (PID)`."""
    _, _, rest = log.read_text().partition("Listening at: ")
    return rest.partition(" ")[0]


def test_orders_placed_through_a_pooler_are_exact(shop: Shop) -> None:
    customers = [shop.register(name=f"Customer {number}") for number in range(CUSTOMERS)]

    with ThreadPoolExecutor(CUSTOMERS) as pool:
        placed = list(pool.map(lambda one: [one.place("1.00") for _ in range(ORDERS)], customers))

    for customer, orders in zip(customers, placed, strict=True):
        soon(
            lambda customer=customer: customer.reserved() == Decimal(ORDERS),  # type: ignore[misc]
            "all orders are confirmed",
        )
        listed = customer.orders()
        assert {one["id"] for one in listed} == {one["id"] for one in orders}
        assert {customer.sees("CONFIRMED", one)["status"] for one in orders} == {"CONFIRMED"}


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
