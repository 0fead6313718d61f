"""Stage 0: one transaction checks the credit and places the order; a JOIN reads both tables."""

from decimal import Decimal
from functools import partial
from typing import Any

from celery import shared_task
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Sum

from ..customers.models import Customer
from .models import Order


class NotEnoughCredit(Exception):
    """The customer's confirmed orders and this order are above the limit."""


def place(customer_id: int, lines: list[dict[str, Any]]) -> Order:
    total = sum(line["quantity"] * Decimal(line["unit_price"]) for line in lines)
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=customer_id)
        confirmed = customer.orders.filter(status="CONFIRMED").aggregate(sum=Sum("total"))["sum"]
        if (confirmed or 0) + total > customer.credit_limit:
            raise NotEnoughCredit
        order = Order.objects.create(customer=customer, lines=lines, total=total)
        # If the process dies between the commit and this call, no receipt is ever sent.
        transaction.on_commit(partial(send_receipt.delay, order.pk))
    return order


def cancel(order_id: int) -> None:
    Order.objects.filter(pk=order_id).update(status="CANCELLED")


@shared_task
def send_receipt(order_id: int) -> None:
    order = Order.objects.select_related("customer").get(pk=order_id)
    send_mail(f"Order {order_id}", f"{order.total} is due.", None, [order.customer.email])


def report() -> list[tuple[int, str, str, Decimal]]:
    rows = Order.objects.order_by("pk")
    return list(rows.values_list("pk", "customer__name", "status", "total"))
