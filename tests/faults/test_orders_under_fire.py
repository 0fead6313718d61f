"""Places orders while every process is killed and the stream server stops and loses its data."""

import random
import statistics
import time
from dataclasses import dataclass

import pytest

from tests.faults.books import Books
from tests.faults.buyers import Buyers, planned
from tests.faults.fire import Fire, burn, has_settled
from tests.faults.stories import incomplete
from tests.support.stacks import RunningStack, own_stack

SEED = 20261124
BUYERS = 10
THREADS = 4
FROZEN_SECONDS, DEAD_SECONDS = 5.0, 5.0  # how long the stream server is frozen and dead
WRITES = 100  # the highest number of measured writes, before and during each outage
ADDED_SECONDS = 0.05  # the latency that an outage may add to a write
MANY_ORDERS = 5000  # from this number, the latency is checked, unless other tests run too
# Damage: a wrong sum, a missing reservation, a wrong status, a missing customer.
FALSIFICATIONS = {
    "accounts": (
        (
            "UPDATE accounts_user SET credit_reserved = credit_reserved - 0.01 "
            "WHERE id = (SELECT id FROM accounts_user WHERE credit_reserved > 1 LIMIT 1)"
        ),
        (
            "DELETE FROM accounts_reservation "
            "WHERE order_id = (SELECT order_id FROM accounts_reservation LIMIT 1)"
        ),
    ),
    "orders": (
        (
            "UPDATE orders_orderview SET status = 'EXPIRED' "
            "WHERE id = (SELECT id FROM orders_orderview LIMIT 1)"
        ),
        "DELETE FROM orders_customerview WHERE name = 'Buyer 1'",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Latencies of single writes in seconds: before an outage, and with a frozen or dead server."""

    before: list[float]
    frozen: list[float]
    dead: list[float]

    @property
    def added_seconds(self) -> float:
        """Returns the latency that the outage adds, from the worse of the two medians."""
        worse = max(statistics.median(self.frozen), statistics.median(self.dead))
        return worse - statistics.median(self.before)

    def __str__(self) -> str:
        return "; ".join(
            f"{name} p50 {statistics.median(found) * 1000:.0f} ms, "
            f"p95 {statistics.quantiles(found, n=20)[-1] * 1000:.0f} ms, "
            f"longest {max(found) * 1000:.0f} ms, {len(found)} writes"
            for name, found in vars(self).items()
        )


def go_through_an_outage(buyers: Buyers, fire: Fire) -> Outage:
    """Measures one buyer's latencies before and during ten seconds without a stream server."""
    buyers.hold()
    fire.wait(fire.everything_runs, "all killed processes run again")
    before = buyers.latencies(seconds=FROZEN_SECONDS, writes=WRITES)
    with fire.streams_frozen():
        frozen = buyers.latencies(seconds=FROZEN_SECONDS, writes=WRITES)
    with fire.streams_down():
        dead = buyers.latencies(seconds=DEAD_SECONDS, writes=WRITES)
    return Outage(before=before, frozen=frozen, dead=dead)


@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("many-orders")
@pytest.mark.parametrize(
    ("shape", "orders", "kills_each"),
    [
        pytest.param("services", 400, 1, marks=pytest.mark.long),
        pytest.param("services", 5000, 4, marks=pytest.mark.full),
        pytest.param("monolith", 5000, 4, marks=pytest.mark.full),
    ],
)
def test_every_order_ends_once_and_the_ledger_is_exact_across_crashes(
    shape: str, orders: int, kills_each: int, worker: str
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    plan = planned(orders=orders, buyers=BUYERS, chance=chance)
    with own_stack(shape) as stack:
        started = time.monotonic()
        fire = Fire(stack, kills_each=kills_each, chance=chance)
        buyers = Buyers(stack.status()["urls"], plan, buyers=BUYERS)
        with buyers.working(threads=THREADS):
            burn(buyers, fire, orders=orders // 3, kills=fire.kills_left // 2)
            outage = go_through_an_outage(buyers, fire)
            fire.forget_everything()
            burn(buyers, fire, orders=buyers.left // 2, kills=fire.kills_left // 2)
            fire.forget_everything()
            burn(buyers, fire, orders=buyers.left, kills=fire.kills_left)
            fire.wait(lambda: buyers.are_done, "every buyer gets every answer")
        fire.wait(fire.everything_runs, "all killed processes run again")
        fire.wait(lambda: has_settled(stack), "all events are published and read")
        report, seconds = buyers.report, time.monotonic() - started
        print(  # noqa: T201
            f"seed {SEED}, {shape}: {orders} orders in {seconds:.0f} s, {len(fire.killed)} kills, "
            f"{report.broken_connections} broken connections, {len(report.cancelled)} cancelled; "
            f"{outage}"
        )
        assert report.complaints == [], f"{stack}"
        assert Books.of(stack).discrepancies(plan, report) == [], f"seed {SEED}; {stack}"
        # Both full shapes together: the stories of 10,000 orders.
        assert incomplete(stack, report.orders.values()) == [], f"seed {SEED}; {stack}"
        if orders >= MANY_ORDERS and worker == "main":
            assert outage.added_seconds < ADDED_SECONDS, f"{outage}; {stack}"
        falsify(stack)
        expected = sum(map(len, FALSIFICATIONS.values()))
        assert len(Books.of(stack).discrepancies(plan, report)) >= expected


def falsify(stack: RunningStack) -> None:
    """Damages the data, to check that `Books` finds the damage."""
    for service, statements in FALSIFICATIONS.items():
        with stack.database(service) as ask:
            for statement in statements:
                ask(statement)
