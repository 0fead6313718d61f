"""A handler fails for one user: this user's events are parked in order, all others are applied."""

from decimal import Decimal
from typing import Any

from tests.acceptance.bugs import broken
from tests.acceptance.people import Customer, soon
from tests.support.stacks import RunningStack


def test_failed_reservations_of_one_user_are_retried_after_a_fix(
    stack: RunningStack, ada: Customer, bob: Customer
) -> None:
    ada.sees("CONFIRMED", ada.place("5.00"))
    with broken(stack, "accounts", "accounts_reservation.user_id", ada.id) as fix:
        pending = [ada.place(price) for price in ("100.10", "200.20", "300.03", "5000.00")]
        cancelled = ada.place("33.33")
        ada.cancel(cancelled)
        bob.sees("CONFIRMED", bob.place("77.77"))
        # Six events: five placed orders, and the cancellation of one of these orders.
        soon(lambda: stack.parked() == {"credit": 6}, "six events are parked", within_seconds=40)
        bob.sees("CONFIRMED", bob.place("22.23"))
        assert bob.reserved() == Decimal("100.00")
        assert ada.reserved() == Decimal("5.00")
        assert {ada.look_at(order)["status"] for order in pending} == {"PENDING"}

        service = stack.deployment("accounts")
        output = stack.manage("outbox", "parked", service=service)
        assert output.count("broken for one user") == 5
        assert f"{cancelled['id']}  2 event(s)" in output
        # Before the fix a retry fails, and every parked event stays parked.
        stack.manage("outbox", "parked", "retry", service=service, fails=True)
        assert stack.parked() == {"credit": 6}
        fix()
    assert "6 applied" in total(stack.manage("outbox", "parked", "retry", service=service))
    assert "nothing is parked" in stack.manage("outbox", "parked", service=service)
    for order in pending[:3]:
        ada.sees("CONFIRMED", order)
    assert ada.sees("REJECTED", pending[3])["reason"] == "insufficient_credit"
    ada.sees("CANCELLED", cancelled)
    held = sum(Decimal(one["total"]) for one in ada.orders() if one["status"] == "CONFIRMED")
    assert held == Decimal("605.33")
    assert ada.reserved() == held


def total(output: str) -> str:
    numbers = [
        int(line.split(" applied")[0].split()[-1])
        for line in output.splitlines()
        if " applied" in line
    ]
    return f"{sum(numbers)} applied"


def test_events_of_one_user_are_parked_and_retried_in_order(
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
            "the view shows her",
        )
        before = shown(ada)
        with broken(stack, "orders", "orders_customerview.id", ada.id) as fix:
            for number in range(1, 6):
                order = ada.place(f"{number}.01")
                ada.sees("CONFIRMED", order)  # the saga is another consumer
            ada.cancel(order)
            bob.sees("CONFIRMED", bob.place("9.99"))
            soon(lambda: is_like(bob), "the view shows his account")
            soon(
                lambda: stack.parked() == {"customer_view": 6},
                "six events are parked",
                within_seconds=40,
            )
            assert shown(ada) == before
            waiting = ask(
                "SELECT body::json ->> 'sequence', error <> '' FROM orders_parkedevent ORDER BY id"
            )
            first = before[1] + 1
            assert [int(sequence) for sequence, _ in waiting] == list(range(first, first + 6))
            assert [has_error for _, has_error in waiting] == [True] + [False] * 5
            fix()
        output = stack.manage(
            "outbox", "parked", "retry", ada.id, service=stack.deployment("orders")
        )
        assert "6 applied" in output
        assert is_like(ada)
        ada.sees("CONFIRMED", ada.place("1.00"))
        soon(lambda: is_like(ada), "later events are applied")
