"""A handler that raises for one user: that user's events wait in order, all others flow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from tests.acceptance.people import Customer, soon
from tests.support.stacks import RunningStack

# A trigger, made by the schema's owner, is a bug that only shows in the database: the running
# code is the real one.
BREAK = """
CREATE FUNCTION broken_for_one() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'broken for one user'; END $$;
CREATE TRIGGER broken_for_one BEFORE INSERT OR UPDATE ON {table}
FOR EACH ROW WHEN (NEW.{column} = '{user_id}') EXECUTE FUNCTION broken_for_one()
"""
MEND = "DROP FUNCTION broken_for_one CASCADE"


@contextmanager
def broken(stack: RunningStack, service: str, **where: str) -> Iterator[Callable[[], Any]]:
    """The handlers of one service fail for one user, until the yielded mending is called."""
    with stack.database(service) as ask:
        ask(BREAK.format(**where))
        mended: list[bool] = []

        def mend() -> None:
            ask(MEND)
            mended.append(True)

        try:
            yield mend
        finally:
            if not mended:
                mend()


def test_reservations_that_fail_for_one_user_are_replayed_once_mended(
    stack: RunningStack, ada: Customer, bob: Customer
) -> None:
    ada.sees("CONFIRMED", ada.place("5.00"), within_seconds=10)
    with broken(
        stack, "accounts", table="accounts_reservation", column="user_id", user_id=ada.id
    ) as mend:
        stuck = [ada.place(price) for price in ("100.10", "200.20", "300.03", "5000.00")]
        given_up = ada.place("33.33")
        ada.cancel(given_up)
        bob.sees("CONFIRMED", bob.place("77.77"), within_seconds=10)
        # The placed events of five orders, and behind one of them that it was cancelled.
        soon(lambda: stack.parked() == {"credit": 6}, "six events are parked", within_seconds=40)
        bob.sees("CONFIRMED", bob.place("22.23"))
        assert bob.reserved() == Decimal("100.00")
        assert ada.reserved() == Decimal("5.00")
        assert {ada.look_at(order)["status"] for order in stuck} == {"PENDING"}

        service = stack.deployment("accounts")
        told = stack.manage("outbox", "parked", service=service)
        assert told.count("broken for one user") == 5
        assert f"{given_up['id']}  2 event(s)" in told
        # As long as nothing is mended a retry says so, and keeps everything.
        stack.manage("outbox", "parked", "retry", service=service, fails=True)
        assert stack.parked() == {"credit": 6}
        mend()
    assert "6 applied" in total(stack.manage("outbox", "parked", "retry", service=service))
    assert "nothing is parked" in stack.manage("outbox", "parked", service=service)
    for order in stuck[:3]:
        ada.sees("CONFIRMED", order, within_seconds=10)
    assert ada.sees("REJECTED", stuck[3], within_seconds=10)["reason"] == "insufficient_credit"
    ada.sees("CANCELLED", given_up, within_seconds=10)
    held = sum(Decimal(one["total"]) for one in ada.orders() if one["status"] == "CONFIRMED")
    assert held == Decimal("605.33")
    assert ada.reserved() == held


def total(told: str) -> str:
    numbers = [
        int(line.split(" applied")[0].split()[-1])
        for line in told.splitlines()
        if " applied" in line
    ]
    return f"{sum(numbers)} applied"


def test_a_users_events_wait_in_one_sequence_and_are_replayed_in_order(
    stack: RunningStack, ada: Customer, bob: Customer
) -> None:
    def shown(who: Customer) -> tuple[Any, ...]:
        [row] = ask(
            "SELECT credit_reserved, version, is_active FROM orders_customerview WHERE id = %s",
            who.id,
        )
        return tuple(row)

    def is_like(who: Customer) -> bool:
        account = who.account()
        return shown(who) == (
            Decimal(account["credit_reserved"]),
            account["version"],
            account["is_active"],
        )

    with stack.database("orders") as ask:
        soon(
            lambda: ask("SELECT 1 FROM orders_customerview WHERE id = %s", ada.id),
            "she is known in orders",
        )
        before = shown(ada)
        with broken(
            stack, "orders", table="orders_customerview", column="id", user_id=ada.id
        ) as mend:
            for number in range(1, 6):
                order = ada.place(f"{number}.01")
                ada.sees("CONFIRMED", order, within_seconds=10)  # the saga is another consumer
            ada.cancel(order)
            bob.sees("CONFIRMED", bob.place("9.99"), within_seconds=10)
            soon(lambda: is_like(bob), "he is shown as he is")
            soon(lambda: stack.parked() == {"customer_view": 6}, "six wait", within_seconds=40)
            assert shown(ada) == before
            waiting = ask(
                "SELECT body::json ->> 'sequence', error <> '' FROM orders_parkedevent ORDER BY id"
            )
            first = before[1] + 1
            assert [int(sequence) for sequence, _ in waiting] == list(range(first, first + 6))
            assert [has_error for _, has_error in waiting] == [True] + [False] * 5
            mend()
        told = stack.manage("outbox", "parked", "retry", ada.id, service=stack.deployment("orders"))
        assert "6 applied" in told
        assert is_like(ada)
        ada.sees("CONFIRMED", ada.place("1.00"), within_seconds=10)
        soon(lambda: is_like(ada), "what comes later flows again")
