"""The read models, kept by events: what the latest one said, whatever order they come in.

Plain functions of inbound facts that publish nothing, so a replay repeats no effect. Each
is idempotent, and an event older than what a row shows changes nothing; one of the same version
mends a row that was damaged.

Events come in runs, and are written in one statement a run: live as they were read, in a rebuild
(`replay`, `outbox.rebuilding`) in thousands, into tables of the same names with a suffix.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from django.db import connections, router

from outbox.prepared import Prepared

from .domain.order import Status
from .inbound import CreditChanged, CustomerChanged, CustomerErased, OrderChanged
from .models import CustomerView, OrderView, Sales

# `suffix` chooses the table: '' is the one that is read, another one is being rebuilt beside it.
SHOW_ORDERS = """
INSERT INTO orders_orderview{suffix} AS shown
    (id, user_id, status, lines, total, reason, version, placed_at, updated_at)
SELECT id, user_id, status, lines, total, reason, version, placed_at, updated_at
  FROM json_to_recordset(%(told)s)
    AS told (id uuid, user_id uuid, status text, lines jsonb, total numeric, reason text,
             version int, placed_at timestamptz, updated_at timestamptz)
ON CONFLICT (id) DO UPDATE
   SET user_id = excluded.user_id, status = excluded.status, lines = excluded.lines,
       total = excluded.total, reason = excluded.reason, version = excluded.version,
       placed_at = excluded.placed_at, updated_at = excluded.updated_at
 WHERE shown.version <= excluded.version
"""

COUNTED = """
SELECT order_id, version, day, sales FROM orders_countedorder{suffix}
 WHERE order_id = ANY (%(orders)s)
"""

COUNT_ORDERS = """
INSERT INTO orders_countedorder{suffix} (order_id, version, day, sales)
SELECT order_id, version, day, sales
  FROM json_to_recordset(%(counted)s) AS told (order_id uuid, version int, day date, sales jsonb)
ON CONFLICT (order_id) DO UPDATE
   SET version = excluded.version, day = excluded.day, sales = excluded.sales
"""

# In one order, so that processes that add to the same rows wait for, and never lock out, each
# other.
ADD_UP = """
INSERT INTO orders_sales{suffix} AS sold (id, day, sku, orders, quantity, revenue)
SELECT id, day, sku, orders, quantity, revenue
  FROM json_to_recordset(%(more)s)
    AS more (id text, day date, sku text, orders int, quantity bigint, revenue numeric)
 ORDER BY id
ON CONFLICT (id) DO UPDATE
   SET orders = sold.orders + excluded.orders, quantity = sold.quantity + excluded.quantity,
       revenue = sold.revenue + excluded.revenue
"""

FORGET_UNSOLD = "DELETE FROM orders_sales{suffix} WHERE id = ANY (%(sold)s) AND orders = 0"

SHOW_CUSTOMERS = """
INSERT INTO orders_customerview{suffix} AS shown
    (id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at)
SELECT id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at
  FROM json_to_recordset(%(told)s)
    AS told (id uuid, name text, email text, credit_limit numeric, credit_reserved numeric,
             is_active bool, version int, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, email = excluded.email, credit_limit = excluded.credit_limit,
       credit_reserved = excluded.credit_reserved, is_active = excluded.is_active,
       version = excluded.version, created_at = excluded.created_at,
       updated_at = excluded.updated_at
 WHERE shown.version <= excluded.version
"""

HIDE_CUSTOMER = "DELETE FROM orders_customerview{suffix} WHERE id = %s"

SHOW_CREDITS = """
UPDATE orders_customerview{suffix} AS shown
   SET credit_limit = told.credit_limit, credit_reserved = told.credit_reserved,
       version = told.version, updated_at = told.updated_at
  FROM json_to_recordset(%(told)s)
    AS told (user_id uuid, credit_limit numeric, credit_reserved numeric, version int,
             updated_at timestamptz)
 WHERE shown.id = told.user_id AND shown.version < told.version
"""

TYPES = {"told": "json", "orders": "uuid[]", "counted": "json", "more": "json", "sold": "text[]"}

T = TypeVar("T", CreditChanged, CustomerChanged, OrderChanged)


def show_orders(orders: Iterable[OrderChanged], *, suffix: str = "") -> None:
    """Each order as the latest of these tells it, unless its row shows a later version."""
    told = _as_json(_latest(orders, key=lambda order: order.id))
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        _prepared(SHOW_ORDERS, suffix=suffix).execute(cursor, {"told": told})


def count_sales(orders: Iterable[OrderChanged], *, suffix: str = "") -> None:
    """What is sold per day (of the placing, in UTC) and SKU: the lines of confirmed orders.

    A sum can't see by itself what it has counted. So `CountedOrder` keeps of each order the
    version that was counted last and what it counted for, and a later version adds the
    difference: an event that comes twice, late or as `orders.order.updated.v1` adds nothing, a
    cancellation takes away what the confirmation added, and one event is enough to catch up
    with many that were missed. So a rebuild may tell each order once, as it is. What an order
    counts for follows from its state alone, and a row whose last order is gone goes too: the
    sums don't depend on the way that led to them. One that was damaged is mended by a rebuild
    only.

    An order's events come one after the other (they share a partition, and its position is
    locked), so its row needs no lock of its own.
    """
    told = {order.id: order for order in _latest(orders, key=lambda order: order.id)}
    more: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, Decimal()])
    counted = []
    with connections[router.db_for_write(Sales)].cursor() as cursor:
        asked = {"orders": [str(key) for key in told]}
        _prepared(COUNTED, suffix=suffix).execute(cursor, asked)
        for order_id, version, day, sales in cursor.fetchall():
            if version > told[order_id].version:
                del told[order_id]
            else:
                _add(more, day.isoformat(), json.loads(sales), times=-1)
        for order in told.values():
            day, sales = order.placed_at.date().isoformat(), _sales_of(order)
            _add(more, day, sales, times=1)
            counted.append(
                {"order_id": str(order.id), "version": order.version, "day": day, "sales": sales}
            )
        changed = [_row(*key, *sums) for key, sums in more.items() if any(sums)]
        _prepared(COUNT_ORDERS, ADD_UP, FORGET_UNSOLD, suffix=suffix).execute(
            cursor,
            {
                "counted": _as_json(counted),
                "more": _as_json(changed),
                "sold": [row["id"] for row in changed],
            },
        )


@cache
def _prepared(*statements: str, suffix: str) -> Prepared:
    return Prepared(*(statement.format(suffix=suffix) for statement in statements), types=TYPES)


def _as_json(rows: Collection[Any]) -> str:
    """As JSON, in which amounts, times and ids are strings."""
    return msgspec.json.encode(list(rows)).decode()


def _latest(changes: Iterable[T], *, key: Callable[[T], UUID]) -> Collection[T]:
    found: dict[UUID, T] = {}
    for change in changes:
        if (known := found.get(key(change))) is None or known.version <= change.version:
            found[key(change)] = change
    return found.values()


def _sales_of(order: OrderChanged) -> dict[str, list[Any]]:
    """{SKU: [quantity, revenue]}"""
    sold: dict[str, list[Any]] = {}
    for line in order.lines if order.status is Status.CONFIRMED else ():
        quantity, revenue = sold.get(line["sku"], (0, "0"))
        revenue = Decimal(revenue) + line["quantity"] * Decimal(line["unit_price"])
        sold[line["sku"]] = [quantity + line["quantity"], str(revenue)]
    return sold


def _add(
    more: defaultdict[tuple[str, str], list[Any]],
    day: str,
    sales: Mapping[str, Sequence[Any]],
    *,
    times: int,
) -> None:
    for sku, (quantity, revenue) in sales.items():
        sums = more[day, sku]
        sums[0] += times
        sums[1] += times * quantity
        sums[2] += times * Decimal(revenue)


def _row(day: str, sku: str, orders: int, quantity: int, revenue: Decimal) -> dict[str, Any]:
    return {
        "id": f"{day} {sku}",
        "day": day,
        "sku": sku,
        "orders": orders,
        "quantity": quantity,
        "revenue": str(revenue),
    }


def show_customers(customers: Iterable[CustomerChanged], *, suffix: str = "") -> None:
    """Each customer as the latest of these tells it, unless its row shows a later version."""
    told = _as_json(_latest(customers, key=lambda customer: customer.id))
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        _prepared(SHOW_CUSTOMERS, suffix=suffix).execute(cursor, {"told": told})


def hide_customer(customer: CustomerErased, *, suffix: str = "") -> None:
    """Whatever its version: after this event there is nobody to show."""
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(HIDE_CUSTOMER.format(suffix=suffix), [customer.id])


def drop_customer(customer_id: UUID, *, version: int) -> None:
    """Hide a row at this very version until its owner tells it again."""
    rows = CustomerView.objects.using(router.db_for_write(CustomerView))
    rows.filter(pk=customer_id, version=version).delete()


def show_credits(changes: Iterable[CreditChanged], *, suffix: str = "") -> None:
    """The credit part of the customers that are shown; one that isn't comes whole, with a later
    event or with the owner's backfill."""
    told = _as_json(_latest(changes, key=lambda credit: credit.user_id))
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        _prepared(SHOW_CREDITS, suffix=suffix).execute(cursor, {"told": told})
