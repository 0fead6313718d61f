"""The previous release and this one run side by side, one service each (docs/upgrades.md)."""

import random
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from stack import report
from stack.environment import DATABASE
from tests.acceptance.test_separation import environment_of
from tests.faults.books import Books
from tests.faults.buyers import Buyers, planned
from tests.faults.fire import has_settled
from tests.support.stacks import SERVICES, RunningStack
from tests.support.two_releases import two_releases
from tests.support.waiting import eventually

SEED = 20261129
ORDERS, BUYERS, THREADS = 1000, 10, 4
ORDERS_SECONDS, SETTLED_SECONDS = 150, 60


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("two-releases")
@pytest.mark.parametrize("previous", ["orders", "accounts"])
def test_the_ledger_is_exact_while_a_service_has_the_previous_release(
    previous: str, tmp_path: Path
) -> None:
    plan = planned(orders=ORDERS, buyers=BUYERS, chance=random.Random(SEED))  # noqa: S311
    with two_releases(previous=previous, folder=tmp_path) as stack:
        assert {name for name in SERVICES if runs_from(stack, name, tmp_path)} == {previous}
        started = time.monotonic()
        buyers = Buyers(stack.status()["urls"], plan, buyers=BUYERS)
        with buyers.working(threads=THREADS):
            buyers.go()
            eventually(
                lambda: buyers.are_done, within_seconds=ORDERS_SECONDS, what="all orders are placed"
            )
        eventually(
            lambda: has_settled(stack),
            within_seconds=SETTLED_SECONDS,
            what="all events are published and read",
        )
        books = Books.of(stack)
        print(  # noqa: T201
            f"{previous} of the previous release: {books.statuses} in "
            f"{time.monotonic() - started:.0f} s"
        )
        assert buyers.report.complaints[:3] == [], f"{stack}"
        assert books.discrepancies(plan, buyers.report) == [], f"{stack}"
        assert books.statuses.keys() == {"CONFIRMED", "REJECTED", "CANCELLED"}
        check_the_copy(stack, previous=previous, folder=tmp_path)


def check_the_copy(stack: RunningStack, *, previous: str, folder: Path) -> None:
    """Compare, repair and rebuild the copy of users in orders, over HTTP with accounts."""
    if previous == "accounts":
        assert "accounts answers 404 to " in stack.manage("reconcile", service="orders", fails=True)
        return
    with stack.database("orders") as ask:
        ask("DELETE FROM orders_customerview WHERE name = 'Buyer 1'")
    given = environment_of(stack, "orders-consumer")
    manage = partial(manage_of_previous_release, folder=folder)
    assert "1 differed" in manage("reconcile", environment=given, status=3)
    give_tables_to_the_runtime_role(stack)
    manage("rebuild", "customer_view", environment=given)
    assert Books.of(stack).inconsistencies() == [], f"{stack}"


def give_tables_to_the_runtime_role(stack: RunningStack) -> None:
    """Make the role of 0.2.0 the owner again, as the way back does: its rebuilds create tables."""
    admin = report.known_stack(stack.root).addresses.admin_dsn
    connected = closing(psycopg2.connect(admin, dbname=DATABASE))
    with connected as connection, connection, connection.cursor() as cursor:
        cursor.execute("REASSIGN OWNED BY orders_owner TO orders")


def manage_of_previous_release(
    *arguments: str, environment: dict[str, str], folder: Path, status: int = 0
) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def runs_from(stack: RunningStack, service: str, folder: Path) -> bool:
    """Whether all processes of the service run the code in this folder."""
    pids = [pid for name, pid in stack.pids().items() if name.startswith(f"{service}-")]
    return {Path(f"/proc/{pid}/cwd").resolve() for pid in pids} == {folder.resolve()}
