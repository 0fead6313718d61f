"""The read models, kept by events: what the latest one said, whatever order they come in.

Plain functions of inbound dataclasses that publish nothing, so a replay repeats no effect. Each
is idempotent, and an event older than what a row shows changes nothing; one of the same version
mends a row that was damaged.
"""

import json
from uuid import UUID

from django.db import connections, router

from .inbound import CreditChanged, CustomerChanged, CustomerErased, OrderChanged
from .models import CustomerView, OrderView

SHOW_ORDER = """
INSERT INTO orders_orderview AS shown
    (id, user_id, status, lines, total, reason, version, placed_at, updated_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
   SET user_id = excluded.user_id, status = excluded.status, lines = excluded.lines,
       total = excluded.total, reason = excluded.reason, version = excluded.version,
       placed_at = excluded.placed_at, updated_at = excluded.updated_at
 WHERE shown.version <= excluded.version
"""

SHOW_CUSTOMER = """
INSERT INTO orders_customerview AS shown
    (id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, email = excluded.email, credit_limit = excluded.credit_limit,
       credit_reserved = excluded.credit_reserved, is_active = excluded.is_active,
       version = excluded.version, created_at = excluded.created_at,
       updated_at = excluded.updated_at
 WHERE shown.version <= excluded.version
"""

SHOW_CREDIT = """
UPDATE orders_customerview
   SET credit_limit = %s, credit_reserved = %s, version = %s, updated_at = %s
 WHERE id = %s AND version < %s
"""


def show_order(order: OrderChanged) -> None:
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        cursor.execute(
            SHOW_ORDER,
            [
                order.id,
                order.user_id,
                order.status.value,
                json.dumps(order.lines),
                order.total,
                order.reason,
                order.version,
                order.placed_at,
                order.updated_at,
            ],
        )


def show_customer(customer: CustomerChanged) -> None:
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(
            SHOW_CUSTOMER,
            [
                customer.id,
                customer.name,
                customer.email,
                customer.credit_limit,
                customer.credit_reserved,
                customer.is_active,
                customer.version,
                customer.created_at,
                customer.updated_at,
            ],
        )


def hide_customer(customer: CustomerErased) -> None:
    """Whatever its version: after this event there is nobody to show."""
    CustomerView.objects.using(router.db_for_write(CustomerView)).filter(pk=customer.id).delete()


def drop_customer(customer_id: UUID, *, version: int) -> None:
    """Hide a row at this very version until its owner tells it again."""
    rows = CustomerView.objects.using(router.db_for_write(CustomerView))
    rows.filter(pk=customer_id, version=version).delete()


def show_credit(credit: CreditChanged) -> None:
    """The credit part of a customer that is shown; one that isn't comes whole, with a later event
    or with the owner's backfill."""
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        cursor.execute(
            SHOW_CREDIT,
            [
                credit.credit_limit,
                credit.credit_reserved,
                credit.version,
                credit.updated_at,
                credit.user_id,
                credit.version,
            ],
        )
