"""Transactional outbox: a change and its event are one transaction, so no event is lost."""

from .narration import Untrue, claim, does, saw, section, wait_until
from .stage import Stage
from .users import new_id

ORDERS = 3
STORED = "SELECT body::json ->> 'type' FROM orders_outboxevent WHERE body::json ->> 'subject' = %s"
ROW_WITHOUT_EVENT = "INSERT INTO lab_owneduser (id, name, version) VALUES (%s, 'Ada', 1)"


def show(stage: Stage, *, without: bool) -> None:
    if without:
        claim(
            _write_without_event(stage, within_seconds=2),
            "a committed write had no event in the outbox, and no consumer learned of it",
        )
    section("With the outbox")
    customer = stage.customer()
    does(f"Stop the worker that publishes events, and place {ORDERS} orders.")
    with stage.stopped("worker", "orders"):
        orders = [customer.place("25.00")["id"] for _ in range(ORDERS)]
        stored = [kind for order in orders for (kind,) in stage.sql("orders", STORED, order)]
        claim(stored == ORDERS * ["orders.order.placed.v1"], f"the outbox has {stored}")
        saw("accepted; each order and its event were stored in one transaction:")
        saw(f"{len(stored)} x {stored[0]}")
        statuses = {customer.order(order)["status"] for order in orders}
        claim(statuses == {"PENDING"}, f"without events the orders are {statuses}")
        saw("the orders are PENDING: accounts knows nothing of them yet")
    does("Let the worker continue.")
    waited = wait_until(
        lambda: all(customer.order(order)["status"] == "CONFIRMED" for order in orders),
        "the events of the orders had no effect",
    )
    saw(f"all orders are CONFIRMED {waited} later: no event was lost")
    reserved = f"{25 * ORDERS}.00"
    wait_until(
        lambda: customer.account()["credit_reserved"] == reserved,
        f"the reserved credit isn't {reserved}",
    )
    saw(f"{reserved} is reserved: each event took effect once")

    section("Without the outbox")
    arrived = _write_without_event(stage, within_seconds=1)
    claim(not arrived, "a write without an event reached the copy")
    saw("after 1 s the copy doesn't have it, and nothing will ever send it")


def _write_without_event(stage: Stage, *, within_seconds: float) -> bool:
    """Commit a row without an event, and return whether it reaches the copy in time. At the end the
    owner announces the row after all, so that the copy is correct again."""
    owner, copy = stage.lab("decentralized"), stage.lab("decentralized", "copy")
    user_id = new_id()
    does("Commit a user of the lab as a service that dies before it sends its message.")
    stage.execute("lab", ROW_WITHOUT_EVENT, user_id)
    saw(f"at its owner: {owner.get(user_id)}")
    does("Read the copy that events keep up to date.")
    try:
        wait_until(
            lambda: copy.get(user_id, stale_ok=True, accept=404).status == 200,
            "the copy doesn't have the user",
            within_seconds=within_seconds,
        )
    except Untrue:
        return False
    else:
        return True
    finally:
        owner.rename(user_id, "Ada King")
