"""Periodic work."""

from typing import Any

from celery import shared_task

from .handlers import expire_due_orders

EXPIRED_PER_SWEEP = 500  # orders; the rest waits a second

BEAT: dict[str, dict[str, Any]] = {
    "orders-expire": {
        "task": "orders.expire_orders",
        "schedule": 1.0,  # seconds
        # A sweep that found no free worker in time is replaced by the next one.
        "options": {"queue": "orders", "expires": 1},
    }
}


@shared_task(name="orders.expire_orders")
def expire_orders() -> int:
    """Expire the orders whose deadline has passed; returns how many."""
    return expire_due_orders(limit=EXPIRED_PER_SWEEP)
