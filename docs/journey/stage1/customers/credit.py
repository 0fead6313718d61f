"""Stage 1: the functions of this app that the shop calls."""

from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from .models import Customer, Reservation


def reserve(order_id: int, customer_id: int, amount: Decimal) -> bool:
    """Whether the order holds the credit. A repeated call changes nothing."""
    with transaction.atomic(using="default"):
        customer = Customer.objects.select_for_update().get(pk=customer_id)
        if customer.reservations.filter(pk=order_id).exists():
            return True
        held = customer.reservations.aggregate(sum=Sum("amount"))["sum"] or 0
        if held + amount > customer.credit_limit:
            return False
        customer.reservations.create(order_id=order_id, amount=amount)
    return True


def release(order_id: int) -> None:
    Reservation.objects.filter(pk=order_id).delete()
