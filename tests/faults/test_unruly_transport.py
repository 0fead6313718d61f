"""Places orders while messages are duplicated, late and reordered, credit limits change
and processes are killed."""

import random
import time
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.books import Books
from tests.faults.buyers import Buyers, planned
from tests.faults.clerk import Clerk
from tests.faults.fire import Fire, burn, has_settled
from tests.faults.post import Post
from tests.support.stacks import RunningStack, own_stack

SEED = 20261126
ORDERS, KILLS_EACH = 10_000, 4
BUYERS = 10
THREADS = 4
DEADLINE_SECONDS = 20
VERY_LATE_SECONDS = 40.0  # some messages arrive long after the deadline
# An order normally ends within 5 s of its deadline. The restart of a killed worker takes longer.
ENDED_SECONDS = 5.0 + 30.0
BALANCES = """
SELECT user_id::text, version, event, (data ->> 'credit_reserved')::numeric,
       (data ->> 'credit_limit')::numeric, coalesce((data ->> 'amount')::numeric, 0)
  FROM accounts_userhistory ORDER BY user_id, version
"""
LATEST = """
SELECT coalesce(max(extract(epoch FROM ended.recorded_at - placed.recorded_at)), 0)
  FROM orders_storedevent placed
  JOIN orders_storedevent ended ON ended.stream = placed.stream AND ended.version = 2
 WHERE placed.version = 1
"""
LIMIT_CONSTRAINT = """
SELECT convalidated FROM pg_constraint
 WHERE conrelid = 'accounts_user'::regclass AND conname = 'accounts_reserved_within_limit'
"""


@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("many-orders")  # one after the other, to keep the deadlines
@pytest.mark.full
def test_credit_is_never_overdrawn_by_late_duplicate_or_reordered_messages() -> None:
    chance = random.Random(SEED)  # noqa: S311
    plan = planned(orders=ORDERS, buyers=BUYERS, chance=chance)
    with own_stack() as stack:
        stack.environment["ORDERS_DEADLINE_SECONDS"] = str(DEADLINE_SECONDS)
        stack.up("services")
        started, status = time.monotonic(), stack.status()
        fire = Fire(stack, kills_each=KILLS_EACH, chance=chance)
        buyers = Buyers(status["urls"], plan, buyers=BUYERS)
        clerk = Clerk(status["urls"]["accounts"], status["admin"], chance=random.Random(SEED))  # noqa: S311
        post = Post(stack, very_late_seconds=VERY_LATE_SECONDS)
        with post.delivering():
            with buyers.working(threads=THREADS), clerk.working():
                burn(buyers, fire, orders=ORDERS, kills=fire.kills_left)
                fire.wait(lambda: buyers.are_done, "every buyer gets every answer")
            fire.wait(fire.everything_runs, "all killed processes run again")
            fire.wait(lambda: post.is_empty and has_settled(stack), "all events are read")
        report, seconds = buyers.report, time.monotonic() - started
        late = latest_end(stack) - DEADLINE_SECONDS
        books = Books.of(stack)
        print(  # noqa: T201
            f"seed {SEED}: {ORDERS} orders in {seconds:.0f} s, {len(fire.killed)} kills, "
            f"{books.announced} events of orders, {post.delivered} put back; limits moved: "
            f"{clerk.answers}; ended {books.statuses}; the last {late:.1f} s after its deadline"
        )
        assert report.complaints == [], f"{stack}"
        assert books.discrepancies(plan, report) == [], f"seed {SEED}; {stack}"
        assert late < ENDED_SECONDS, f"{stack}"
        assert_never_overdrawn(stack)


def latest_end(stack: RunningStack) -> float:
    """Returns the longest time in seconds that an order was pending."""
    with stack.database("orders") as ask:
        return float(ask(LATEST)[0][0])


def assert_never_overdrawn(stack: RunningStack) -> None:
    """Checks that the constraint exists and that no version in the history exceeds the limit."""
    with stack.database("accounts") as ask:
        assert ask(LIMIT_CONSTRAINT) == [(True,)]
        history = ask(BALANCES)
    assert overdrawn(history) == []
    user_id, version, _, _, limit, _ = history[-1]
    false = (user_id, version + 1, "CreditReserved", limit + 1, limit, limit + 1)
    assert overdrawn([*history, false])  # a check of the check: it finds an overdraft


SIGNS = {"CreditReserved": 1, "CreditReleased": -1}


def overdrawn(history: list[Any]) -> list[str]:
    """Returns a line for each version whose reserved credit exceeds the limit or is a wrong sum."""
    found: list[str] = []
    balances: dict[str, Decimal] = {}
    versions: dict[str, int] = {}
    for user_id, version, event, reserved, limit, amount in history:
        balance = balances.get(user_id, Decimal(0)) + SIGNS.get(event, 0) * amount
        if not 0 <= reserved <= limit or reserved != balance:
            found.append(f"{user_id} v{version} {event}: {reserved} of {limit}, {balance} held")
        if version != versions.get(user_id, 0) + 1:
            found.append(f"{user_id} has no version before {version}")
        balances[user_id], versions[user_id] = balance, version
    return found
