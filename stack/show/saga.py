"""Saga: two services decide about an order, in steps that can be undone."""

from contextlib import nullcontext

from .narration import Waited, claim, does, saw, section, wait_until
from .stage import Stage
from .users import Customer

PRICE = "600.00"  # two orders exceed the limit of a new customer


def show(stage: Stage, *, without: bool) -> None:
    section("With the saga")
    customer = stage.customer()
    limit = customer.account()["credit_limit"]
    does(f"Place two orders of {PRICE} at once; the customer's credit limit is {limit}.")
    with stage.stopped("consumer", "accounts") if without else nullcontext():
        orders = [customer.place(PRICE)["id"] for _ in range(2)]
        saw("orders accepts both as PENDING: only accounts knows the credit")
        waited = wait_until(
            lambda: "PENDING" not in _statuses(customer, orders),
            "an order stays PENDING: no service decides whether there is credit for it",
            within_seconds=3 if without else 10,
        )
    statuses = _statuses(customer, orders)
    claim(sorted(statuses) == ["CONFIRMED", "REJECTED"], f"the orders are {statuses}")
    kept, refused = (orders[statuses.index(status)] for status in ("CONFIRMED", "REJECTED"))
    reason = customer.order(refused)["reason"]
    claim(reason == "insufficient_credit", f"the order was refused because of {reason}")
    saw(f"accounts decides: one is CONFIRMED, one REJECTED ({reason}), after {waited}")
    _wait_for_reserved(customer, PRICE)
    saw(f"{PRICE} is reserved")
    does("Cancel the confirmed order: a later step undoes the reservation.")
    customer.cancel(kept)
    waited = _wait_for_reserved(customer, "0.00")
    saw(f"0.00 is reserved, after {waited}")
    saw(f"its events: {', '.join(event['type'] for event in customer.events(kept))}")

    section("Without the step of accounts")
    does(f"Stop the consumer of accounts for a moment, and place two orders of {PRICE}.")
    with stage.stopped("consumer", "accounts"):
        orders = [customer.place(PRICE)["id"] for _ in range(2)]
        statuses = _statuses(customer, orders)
        claim(statuses == ["PENDING", "PENDING"], f"without accounts the orders are {statuses}")
        saw(f"both are PENDING; if orders confirmed them alone, 1200.00 of {limit} would be spent")
    does("Let the consumer continue.")
    waited = wait_until(
        lambda: sorted(_statuses(customer, orders)) == ["CONFIRMED", "REJECTED"],
        "the orders aren't decided",
    )
    saw(f"one is CONFIRMED, one REJECTED, {waited} later")


def _wait_for_reserved(customer: Customer, amount: str) -> Waited:
    return wait_until(
        lambda: customer.account()["credit_reserved"] == amount,
        f"the reserved credit doesn't become {amount}",
    )


def _statuses(customer: Customer, orders: list[str]) -> list[str]:
    return [customer.order(order)["status"] for order in orders]
