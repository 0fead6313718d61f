"""Measures a list of orders with the customers' names, which accounts owns: by one request to
accounts for each customer, by one request for all, and from the copy that events maintain.

Both services run as in production. Then accounts is stopped, and the list is read again.
"""

from typing import Any, Final

from stack.credentials import ADMIN_EMAIL
from tests.benchmarks.end_to_end import REGISTER, wait_ready
from tests.benchmarks.figures import ratio
from tests.benchmarks.ground import SHAPE
from tests.benchmarks.lab.access_reader import WAYS
from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.load import spread
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress
from tests.support.waiting import eventually

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
    progress.step("starting both services")
    processes = ground.spawn_application()
    try:
        wait_ready(ground)
        progress.step(f"{CUSTOMERS} customers order")
        question = _prepare(ground)
        progress.step(f"{scale.lists} lists of {CUSTOMERS} orders")
        environment = ground.need_application()["orders"]
        measured = ground.ask("lab.access_reader", environment, lists=scale.lists, **question)
        progress.step("lists while accounts is stopped")
        ground.end(*(each for name, each in processes.items() if name.startswith("accounts-")))
        stopped = ground.ask("lab.access_reader", environment, lists=1, **question)
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


def _prepare(ground: LabGround) -> dict[str, Any]:
    """Registers the customers, and places an order for each. Returns the reader's question."""
    environments = ground.need_application()
    rows = ground.query(REGISTER, CUSTOMERS, dsn=ground.application_dsn)
    users = [user for (user,) in rows]
    ground.run("backfill", environments["accounts"], "manage.py", "outbox", "backfill", "accounts")
    ground.ask("lab.access_reader", environments["orders"], place=users)
    eventually(
        lambda: ground.query(SHOWN, dsn=ground.application_dsn) == [(CUSTOMERS, CUSTOMERS)],
        within_seconds=SHOWN_SECONDS,
        what="orders shows all orders and customers",
    )
    return {
        "accounts": ground.stack.url(SHAPE[0]),
        "email": ADMIN_EMAIL,
        "password": ground.stack.credentials.admin_password,
    }
