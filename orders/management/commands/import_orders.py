from datetime import datetime
from decimal import Decimal

import msgspec

from orders.domain.errors import OrderError
from orders.domain.importing import ImportOrder
from orders.domain.lines import Line, total_of
from orders.domain.order import Status
from orders.handlers import import_order
from placement.dumps import Row, uuid_of
from placement.management.importing import ImportCommand


class LineOfDump(msgspec.Struct):
    sku: str
    quantity: int
    unit_price: Decimal


class OrderOfDump(msgspec.Struct):
    """The fields of a row. `customer` is the customer's key in the other project."""

    customer: int
    lines: list[LineOfDump]
    total: Decimal
    status: Status
    placed_at: datetime
    updated_at: datetime


class Command(ImportCommand):
    help = (
        "Import the orders of another Django project (idempotent). Import the customers first: "
        "accounts reserves the credit of pending and confirmed orders."
    )
    model = "shop.order"
    noun = "orders"
    errors = (OrderError,)

    def import_row(self, row: Row) -> bool:
        order = msgspec.convert(row.fields, type=OrderOfDump)
        lines = tuple(
            Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price)
            for line in order.lines
        )
        if total_of(lines) != order.total:
            raise ValueError(f"the total is {order.total}, but its lines cost {total_of(lines)}")
        return import_order(
            ImportOrder(
                order_id=row.id,
                user_id=uuid_of(order.customer),
                lines=lines,
                status=order.status,
                placed_at=order.placed_at,
                updated_at=order.updated_at,
            )
        )
