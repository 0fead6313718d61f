"""`reconcile` repairs the copy of the customers, and `forget` erases a customer, in each shape."""

import pytest

from tests.acceptance.people import Customer
from tests.support.stacks import Failed, RunningStack
from tests.support.waiting import eventually


@pytest.fixture
def known(stack: RunningStack, ada: Customer) -> Customer:
    """Returns a customer whose row is already in `customer_view` of orders."""
    eventually(
        lambda: shown(stack, ada),
        within_seconds=30,
        what="the view shows the customer",
    )
    return ada


def shown(stack: RunningStack, customer: Customer) -> list[tuple[str]]:
    with stack.database("orders") as ask:
        return ask("SELECT name FROM orders_customerview WHERE id = %s", customer.id)


def test_a_row_changed_by_hand_is_named_and_repaired(stack: RunningStack, known: Customer) -> None:
    service = stack.deployment("orders")
    with stack.database("orders") as ask:
        ask("UPDATE orders_customerview SET name = 'Mallory' WHERE id = %s", known.id)
    output = stack.manage("reconcile", "--dry-run", service=service, fails=True)
    assert f"{known.id}  changed" in output
    output = stack.manage("reconcile", service=service, fails=True)
    assert "1 differed, all are repaired" in output
    assert shown(stack, known) == [("Ada",)]
    assert "0 differ" in stack.manage("reconcile", service=service)


def test_a_forgotten_customer_is_gone_from_both_services(
    stack: RunningStack, known: Customer
) -> None:
    output = stack.manage("forget", known.email, service=stack.deployment("accounts"))
    assert "older events are deleted" in output
    assert not shown(stack, known)
    with pytest.raises(Failed, match="there is no user"):
        stack.manage("forget", known.email, service=stack.deployment("accounts"))
