"""Two deployments whose streams are on a Redis Cluster, of which masters are killed."""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from stack import users
from stack.credentials import Credentials
from tests.faults.books import Books
from tests.faults.buyers import Buyers, planned
from tests.faults.fire import has_settled
from tests.support.clusters import LocalCluster
from tests.support.stacks import SERVICES, RunningStack, own_stack
from tests.support.waiting import eventually

SEED = 20261129
ORDERS, BUYERS, THREADS = 1000, 10, 4
PATIENCE_SECONDS = 600  # for a machine that runs other tests too


@pytest.fixture
def clustered(cluster: LocalCluster) -> Iterator[RunningStack]:
    """Two deployments. Each has its own user on the cluster. Broker and ring are elsewhere."""
    cluster.heal()
    with own_stack() as stack:
        rules = users.all_rules(lab=True)
        for service in SERVICES:
            password = Credentials.of(stack.root).streams_password(service)
            cluster.set_user(service, password, rules[service])
        stack.environment["MITOSIS_STREAMS_CLUSTER"] = cluster.hosts
        stack.up("services")
        yield stack
    cluster.heal()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_ledger_is_exact_although_each_services_master_is_killed(
    cluster: LocalCluster, clustered: RunningStack
) -> None:
    plan = planned(orders=ORDERS, buyers=BUYERS, chance=random.Random(SEED))  # noqa: S311
    started = time.monotonic()
    buyers = Buyers(clustered.status()["urls"], plan, buyers=BUYERS)
    with buyers.working(threads=THREADS):
        buyers.go()
        for number, service in enumerate(SERVICES, start=1):
            goal = ORDERS * number // (len(SERVICES) + 1)
            _wait(lambda goal=goal: buyers.acknowledged >= goal, "buyers place orders")
            cluster.kill_master_of(service)
            cluster.restart()
        _wait(lambda: buyers.are_done, "every buyer gets every answer")
    _wait(lambda: has_settled(clustered), "all events are published and read")
    with cluster.client() as client:
        assert all(client.exists(f"{{{service}}}:cursor") for service in SERVICES)
    report, books = buyers.report, Books.of(clustered)
    seconds = time.monotonic() - started
    print(f"{ORDERS} orders in {seconds:.0f} s: {books.statuses}")  # noqa: T201
    assert report.complaints == [], f"{clustered}"
    assert books.discrepancies(plan, report) == [], f"{clustered}"


def _wait(condition: Callable[[], object], what: str) -> None:
    eventually(condition, within_seconds=PATIENCE_SECONDS, what=what)
