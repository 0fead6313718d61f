"""The projections: each row shows the latest event, even if events arrive out of order.

The functions publish nothing, so a replay has no side effects. Each is idempotent: an event older
than its row changes nothing, and an event of the same version repairs a damaged row. A disowned
order is the exception: it replaces every version. The streams still have the events that a failover
has lost, and these events can have higher versions than OrderDisowned.

One statement writes a batch of events, normally the events of one read. A rebuild (`replay`,
`outbox.rebuilding`) writes thousands of events, into tables of the same names with a suffix.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from django.db import connections, router

from outbox.prepared import Prepared

from .domain.order import Status
from .inbound import CreditChanged, CustomerChanged, CustomerErased, OrderChanged
from .models import CustomerView, OrderView, Sales

# `suffix` selects the table: '' is the table in use, another suffix is the shadow of a rebuild.
SHOW_ORDERS = """
INSERT INTO orders_orderview{suffix} AS shown
    (id, user_id, status, lines, total, reason, version, placed_at, updated_at)
SELECT id, user_id, status, lines, total, reason, version, placed_at, updated_at
  FROM json_to_recordset(%(rows)s)
    AS given (id uuid, user_id uuid, status text, lines jsonb, total numeric, reason text,
              version int, placed_at timestamptz, updated_at timestamptz)
ON CONFLICT (id) DO UPDATE
   SET user_id = excluded.user_id, status = excluded.status, lines = excluded.lines,
       total = excluded.total, reason = excluded.reason, version = excluded.version,
       placed_at = excluded.placed_at, updated_at = excluded.updated_at
 WHERE excluded.status = 'DISOWNED'
    OR (shown.status <> 'DISOWNED' AND shown.version <= excluded.version)
"""

COUNTED = """
SELECT order_id, version, day, sales FROM orders_countedorder{suffix}
 WHERE order_id = ANY (%(orders)s)
"""

COUNT_ORDERS = """
INSERT INTO orders_countedorder{suffix} (order_id, version, day, sales)
SELECT order_id, version, day, sales
  FROM json_to_recordset(%(counted)s) AS given (order_id uuid, version int, day date, sales jsonb)
ON CONFLICT (order_id) DO UPDATE
   SET version = excluded.version, day = excluded.day, sales = excluded.sales
"""

# Ordered by id, so that processes that update the same rows can't deadlock.
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

DELETE_UNSOLD = "DELETE FROM orders_sales{suffix} WHERE id = ANY (%(sold)s) AND orders = 0"

SHOW_CUSTOMERS = """
INSERT INTO orders_customerview{suffix} AS shown
    (id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at)
SELECT id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at
  FROM json_to_recordset(%(rows)s)
    AS given (id uuid, name text, email text, credit_limit numeric, credit_reserved numeric,
              is_active bool, version int, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, email = excluded.email, credit_limit = excluded.credit_limit,
       credit_reserved = excluded.credit_reserved, is_active = excluded.is_active,
       version = excluded.version, created_at = excluded.created_at,
       updated_at = excluded.updated_at
 WHERE shown.version <= excluded.version
"""

DELETE_CUSTOMER = "DELETE FROM orders_customerview{suffix} WHERE id = %s"

SHOW_CREDITS = """
UPDATE orders_customerview{suffix} AS shown
   SET credit_limit = given.credit_limit, credit_reserved = given.credit_reserved,
       version = given.version, updated_at = given.updated_at
  FROM json_to_recordset(%(rows)s)
    AS given (user_id uuid, credit_limit numeric, credit_reserved numeric, version int,
              updated_at timestamptz)
 WHERE shown.id = given.user_id AND shown.version < given.version
"""

TYPES = {"rows": "json", "orders": "uuid[]", "counted": "json", "more": "json", "sold": "text[]"}

T = TypeVar("T", CreditChanged, CustomerChanged, OrderChanged)
LAST: Final = 2**31 - 1  # above every version; the largest number that the column can store


def show_orders(orders: Iterable[OrderChanged], *, suffix: str = "") -> None:
    """Write the latest of these versions of each order, unless its row has a later version."""
    rows = _as_json(_latest(orders, key=lambda order: order.id))
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        _prepared(SHOW_ORDERS, suffix=suffix).execute(cursor, {"rows": rows})


def count_sales(orders: Iterable[OrderChanged], *, suffix: str = "") -> None:
    """Sum the lines of confirmed orders per SKU and per UTC day on which the order was placed.

    `CountedOrder` keeps the last counted version of each order (LAST if it is disowned) and its
    share of the sums; a later version adds only the difference. So an event that arrives twice,
    late or as `orders.order.updated.v1` adds nothing, a cancellation subtracts the order's share,
    and one event replaces any number of missed events. A rebuild therefore needs each order
    only once, in its current state. The share of an order depends on its state alone, and a row
    without orders is deleted, so the sums don't depend on the sequence of events. Only a rebuild
    repairs a damaged sum.

    An order's events are applied one after the other (they share a partition whose position is
    locked), so the order's row needs no lock.
    """
    orders_by_id = {order.id: order for order in _latest(orders, key=lambda order: order.id)}
    more: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, Decimal()])
    counted = []
    with connections[router.db_for_write(Sales)].cursor() as cursor:
        ids = {"orders": [str(order_id) for order_id in orders_by_id]}
        _prepared(COUNTED, suffix=suffix).execute(cursor, ids)
        for order_id, version, day, sales in cursor.fetchall():
            if version > _rank(orders_by_id[order_id]):
                del orders_by_id[order_id]
            else:
                _add(more, day.isoformat(), json.loads(sales), times=-1)
        for order in orders_by_id.values():
            day, sales = order.placed_at.date().isoformat(), _sales_of(order)
            _add(more, day, sales, times=1)
            counted.append(
                {"order_id": str(order.id), "version": _rank(order), "day": day, "sales": sales}
            )
        changed = [_row(*key, *sums) for key, sums in more.items() if any(sums)]
        _prepared(COUNT_ORDERS, ADD_UP, DELETE_UNSOLD, suffix=suffix).execute(
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
    """Encode as JSON, with amounts, times and ids as strings."""
    return msgspec.json.encode(list(rows)).decode()


def _latest(changes: Iterable[T], *, key: Callable[[T], UUID]) -> Collection[T]:
    found: dict[UUID, T] = {}
    for change in changes:
        if (known := found.get(key(change))) is None or _rank(known) <= _rank(change):
            found[key(change)] = change
    return found.values()


def _rank(change: CreditChanged | CustomerChanged | OrderChanged) -> int:
    """The version of the change, by which changes of one aggregate are ordered."""
    disowned = isinstance(change, OrderChanged) and change.status is Status.DISOWNED
    return LAST if disowned else change.version


def _sales_of(order: OrderChanged) -> dict[str, list[Any]]:
    """Return {SKU: [quantity, revenue]}, empty unless the order is confirmed."""
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
    """Write the latest of these versions of each customer, unless its row has a later version."""
    rows = _as_json(_latest(customers, key=lambda customer: customer.id))
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        _prepared(SHOW_CUSTOMERS, suffix=suffix).execute(cursor, {"rows": rows})


def delete_customer(customer: CustomerErased, *, suffix: str = "") -> None:
    """Delete the row, at any version, because the customer has no later events."""
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(DELETE_CUSTOMER.format(suffix=suffix), [customer.id])


def delete_version(customer_id: UUID, *, version: int) -> None:
    """Delete a customer's row if it has exactly this version. The owner's backfill restores it."""
    rows = CustomerView.objects.using(router.db_for_write(CustomerView))
    rows.filter(pk=customer_id, version=version).delete()


def show_credits(changes: Iterable[CreditChanged], *, suffix: str = "") -> None:
    """Update the credit of existing rows. A missing row is inserted by another event or by a
    backfill."""
    rows = _as_json(_latest(changes, key=lambda credit: credit.user_id))
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        _prepared(SHOW_CREDITS, suffix=suffix).execute(cursor, {"rows": rows})
