"""Measures a list of orders with the customers' names, which accounts owns: by one request to
accounts for each customer, by one request for all, and from the copy that events maintain.

Both services run as in production. Then accounts is stopped, and the list is read again.
"""

from collections.abc import Mapping
from typing import Any, Final

from stack.credentials import ADMIN_EMAIL
from tests.benchmarks.clock import wait_until
from tests.benchmarks.end_to_end import REGISTER
from tests.benchmarks.figures import ratio
from tests.benchmarks.ground import SHAPE
from tests.benchmarks.lab.access_reader import WAYS
from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.load import spread
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress

CUSTOMERS: Final = 50
SHOWN_SECONDS: Final = 60.0
SHOWN: Final = """
SELECT (SELECT count(DISTINCT user_id) FROM orders.orders_orderview),
       (SELECT count(*) FROM orders.orders_customerview WHERE name = 'Customer')
"""


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> dict[str, Any]:
    """Returns the milliseconds of a list for each way, and how many lists failed or had no name
    while accounts was stopped."""
    progress.begin("access", steps=4)
    progress.step("starting accounts, and the consumers of orders")
    environments = ground.need_application()
    web = _start(ground, environments)
    try:
        progress.step(f"{CUSTOMERS} customers order")
        question = _prepare(ground, environments)
        progress.step(f"{scale.lists} lists of {CUSTOMERS} orders")
        orders = environments["orders"]
        measured = ground.ask("lab.access_reader", orders, lists=scale.lists, **question)
        progress.step("lists while accounts is stopped")
        ground.end(web)
        stopped = ground.ask("lab.access_reader", orders, lists=1, **question)
    finally:
        ground.end_processes()
    found = {way: spread(measured[way]["ms"]) for way in WAYS}
    middle = {way: one["median"] if one else 0.0 for way, one in found.items()}
    return {
        "orders": CUSTOMERS,
        "lists": scale.lists,
        "ms": found,
        "copy_to_single": ratio(middle["copy"], middle["single"]),
        "copy_to_batched": ratio(middle["copy"], middle["batched"]),
        "without_accounts": {way: stopped[way]["failed"] == 0 for way in WAYS},
        "failed": sum(measured[way]["failed"] for way in WAYS),
    }


def _start(ground: LabGround, environments: Mapping[str, dict[str, str]]) -> Any:
    """Starts the web server of accounts, both relays, and the consumers of orders. Returns the web
    server."""
    for service, environment in environments.items():
        ground.spawn(f"{service}-relay", environment, "manage.py", "outbox", "relay", service)
    ground.spawn("orders-consumer", environments["orders"], "manage.py", "outbox", "consume")
    accounts = SHAPE[0]
    web = ground.spawn_web(accounts)
    ground.wait_ready(accounts)
    return web


def _prepare(ground: LabGround, environments: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    """Registers the customers, and places an order for each. Returns the reader's question."""
    rows = ground.query(REGISTER, CUSTOMERS, dsn=ground.application_dsn)
    users = [user for (user,) in rows]
    ground.run("backfill", environments["accounts"], "manage.py", "outbox", "backfill", "accounts")
    ground.ask("lab.access_reader", environments["orders"], place=users)
    wait_until(
        lambda: ground.query(SHOWN, dsn=ground.application_dsn) == [(CUSTOMERS, CUSTOMERS)],
        look_every_seconds=0.1,
        within_seconds=SHOWN_SECONDS,
        what="orders shows all orders and customers",
    )
    return {
        "accounts": ground.stack.url(SHAPE[0]),
        "email": ADMIN_EMAIL,
        "password": ground.stack.credentials.admin_password,
    }
