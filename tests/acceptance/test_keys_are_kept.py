"""orders verifies tokens while accounts is away, also in processes that start in this time."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.acceptance.people import PATIENCE_SECONDS, Customer, Shop, is_ready, soon
from tests.support.freezing import frozen
from tests.support.stacks import RunningStack
from tests.support.waiting import eventually

pytestmark = pytest.mark.parametrize(
    "shape",
    [pytest.param("services", marks=pytest.mark.xdist_group("stack-services"))],
    indirect=True,
)
REQUESTS = 30


def test_orders_verifies_every_token_while_accounts_is_away(
    stack: RunningStack, shop: Shop, ada: Customer
) -> None:
    ada.orders()  # orders knows the keys, and has saved them
    web = stack.pids()["accounts-web"]
    with frozen([web, *children(web)]):
        before = stack.pids()["orders-web"]
        workers = set(children(before))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        eventually(
            lambda: len(set(children(before)) - workers) == len(workers),
            within_seconds=PATIENCE_SECONDS,
            what="orders has new workers",
        )
        all_are_verified(ada)

        os.kill(before, signal.SIGKILL)
        eventually(
            lambda: stack.pids().get("orders-web", before) != before and is_ready(shop.orders),
            within_seconds=PATIENCE_SECONDS,
            what="orders has a new web server",
        )
        assert shop.orders.get("/healthz/ready").json()["keys"] == "known"
        all_are_verified(ada)
    soon(lambda: is_ready(shop.accounts), "accounts is back")  # also for the next tests


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def all_are_verified(customer: Customer) -> None:
    """In new connections: those to a killed worker are lost."""
    url = customer.shop.orders.base_url.join("/api/orders/")
    answers = [httpx.get(url, headers=customer.bearer, timeout=20) for _ in range(REQUESTS)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * REQUESTS
