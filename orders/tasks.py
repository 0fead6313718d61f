"""Periodic tasks of orders."""

from typing import Any

from celery import shared_task

from outbox.tasks import PeriodicTask

from .handlers import drop_old_answers, expire_due_orders

EXPIRED_PER_SWEEP = 500  # the next sweep follows a second later
DROPPED_AT_ONCE = 1000  # per transaction
DROPS_PER_SWEEP = 20

BEAT: dict[str, dict[str, Any]] = {
    "orders-expire": {
        "task": "orders.expire_orders",
        "schedule": 1.0,  # seconds
        # If no worker is free in time, the sweep expires and the next sweep replaces it.
        "options": {"queue": "orders", "expires": 1},
    },
    "orders-drop-old-answers": {
        "task": "orders.drop_old_answers",
        "schedule": 60.0,  # seconds
        "options": {"queue": "orders", "expires": 60},
    },
}


@shared_task(base=PeriodicTask, name="orders.expire_orders")
def expire_orders() -> int:
    """Expire the orders whose deadline has passed; returns how many."""
    return expire_due_orders(limit=EXPIRED_PER_SWEEP)


@shared_task(base=PeriodicTask, name="orders.drop_old_answers")
def drop_answers() -> int:
    """Delete expired answers to idempotent requests; returns how many."""
    dropped = 0
    for _ in range(DROPS_PER_SWEEP):
        some = drop_old_answers(limit=DROPPED_AT_ONCE)
        dropped += some
        if some < DROPPED_AT_ONCE:
            break
    return dropped
