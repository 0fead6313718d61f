"""Stage 1: no transaction covers both apps, so an order is pending until a task decides it."""

from decimal import Decimal
from functools import partial
from typing import Any

from celery import shared_task
from django.core.mail import send_mail
from django.db import transaction
from django.utils.timezone import now

from ..customers.credit import release, reserve
from ..customers.models import Customer
from .models import Order


def place(customer_id: int, lines: list[dict[str, Any]]) -> Order:
    total = sum(line["quantity"] * Decimal(line["unit_price"]) for line in lines)
    with transaction.atomic(using="shop"):
        order = Order.objects.create(customer=customer_id, lines=lines, total=total)
        # If the process dies between the commit and this call, only `sweep` decides the order.
        transaction.on_commit(partial(decide.delay, order.pk), using="shop")
    return order


def cancel(order_id: int) -> None:
    Order.objects.filter(pk=order_id).update(status="CANCELLED", updated_at=now())
    release(order_id)  # if the process dies before this call, the credit is never released


@shared_task
def decide(order_id: int) -> None:
    order = Order.objects.get(pk=order_id)
    reserved = reserve(order_id, order.customer, order.total)
    status = "CONFIRMED" if reserved else "REJECTED"
    pending = Order.objects.filter(pk=order_id, status="PENDING")
    if pending.update(status=status, updated_at=now()) and reserved:
        customer = Customer.objects.get(pk=order.customer)
        send_mail(f"Order {order_id}", f"{order.total} is due.", None, [customer.email])
    elif Order.objects.filter(pk=order_id, status="CANCELLED").exists():
        release(order_id)


def sweep() -> None:
    for order in Order.objects.filter(status__in=["PENDING", "CONFIRMED"]).order_by("pk"):
        decide.delay(order.pk)


def report() -> list[tuple[int, str, str, Decimal]]:
    orders = Order.objects.order_by("pk")
    names = Customer.objects.in_bulk({order.customer for order in orders})  # a second query
    return [(o.pk, names[o.customer].name, o.status, o.total) for o in orders]
