"""Concurrent commands for one order produce one valid history."""

import threading
from typing import Any
from uuid import UUID

import pytest
from django.db import router, transaction

from orders import event_store, handlers
from orders.domain.commands import CancelOrder, ConfirmOrder, ExpireOrder, RejectOrder
from orders.domain.errors import ConcurrentAppend, OrderEnded
from orders.domain.order import fold
from orders.models import OrderDeadline, OutboxEvent, StoredEvent
from orders.published import PUBLIC_TYPES
from outbox.testing import recorded
from tests.integration.orders.conftest import ADA, Place, Threads, waits_for_a_lock
from tests.support.waiting import eventually

ALIAS = router.db_for_write(StoredEvent)


def commands(order_id: UUID) -> dict[str, Any]:
    return {
        "confirm": lambda: handlers.confirm_order(ConfirmOrder(order_id=order_id, user_id=ADA)),
        "reject": lambda: handlers.reject_order(
            RejectOrder(order_id=order_id, user_id=ADA, reason="x")
        ),
        "cancel": lambda: handlers.cancel_order(CancelOrder(order_id=order_id)),
        "expire": lambda: handlers.expire_order(ExpireOrder(order_id=order_id)),
        "sweep": lambda: handlers.expire_due_orders(limit=10),
    }


def assert_one_valid_history(order_id: UUID) -> None:
    """Check that versions have no gap and are announced in order, and that no deadline is left."""
    rows = list(event_store.stored(order_id))
    assert [row.version for row in rows] == list(range(1, len(rows) + 1))
    announced = [
        envelope for envelope in recorded(OutboxEvent) if envelope.subject == str(order_id)
    ]
    assert [envelope.sequence for envelope in announced] == [row.version for row in rows]
    types = [PUBLIC_TYPES[type(event)] for event in event_store.load(order_id)]
    assert [envelope.type for envelope in announced] == types
    assert not OrderDeadline.objects.filter(order_id=order_id).exists()


RACES = [
    ("confirm", "cancel", "expire"),
    ("confirm", "confirm", "reject"),
    ("cancel", "cancel", "cancel"),
    ("confirm", "sweep", "cancel"),
    ("sweep", "sweep", "sweep"),
]


@pytest.mark.parametrize("rivals", RACES)
def test_concurrent_commands_make_one_history(
    place: Place, threads: Threads, settings: Any, rivals: tuple[str, ...]
) -> None:
    settings.ORDERS_DEADLINE_SECONDS = -60
    for _ in range(6):
        order_id = place().id
        results = threads.together(*[commands(order_id)[name] for name in rivals])
        assert_one_valid_history(order_id)
        failures = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(f, ConcurrentAppend | OrderEnded) for f in failures), failures


def test_concurrent_cancels_of_a_confirmed_order_take_effect_once(
    place: Place, threads: Threads
) -> None:
    order_id = place().id
    commands(order_id)["confirm"]()
    results = threads.together(*[commands(order_id)["cancel"]] * 6)
    failures = [result for result in results if isinstance(result, Exception)]
    assert len(failures) == 5
    assert all(isinstance(f, ConcurrentAppend | OrderEnded) for f in failures)
    assert_one_valid_history(order_id)


def test_a_confirmation_waits_for_an_open_cancel_and_is_ignored(
    place: Place, threads: Threads
) -> None:
    order_id = place().id
    cancelled, commit = threading.Event(), threading.Event()

    def cancel() -> None:
        with transaction.atomic(using=ALIAS):
            commands(order_id)["cancel"]()
            cancelled.set()
            assert commit.wait(timeout=10)

    cancelling = threads.start(cancel)
    assert cancelled.wait(timeout=10)
    confirming = threads.start(commands(order_id)["confirm"])
    eventually(waits_for_a_lock, within_seconds=10, what="the confirmation waits for the cancel")
    commit.set()
    cancelling.result(timeout=10)
    assert confirming.result(timeout=10).status == "CANCELLED"
    order = fold(event_store.load(order_id))
    assert order is not None
    assert order.version == 2


def test_a_sweep_skips_an_order_that_is_being_confirmed(
    place: Place, threads: Threads, settings: Any
) -> None:
    settings.ORDERS_DEADLINE_SECONDS = -60
    busy, free = place().id, place().id
    confirmed, commit = threading.Event(), threading.Event()

    def confirm() -> None:
        with transaction.atomic(using=ALIAS):
            commands(busy)["confirm"]()
            confirmed.set()
            assert commit.wait(timeout=10)

    confirming = threads.start(confirm)
    assert confirmed.wait(timeout=10)
    assert handlers.expire_due_orders(limit=10) == 1
    commit.set()
    confirming.result(timeout=10)
    assert handlers.expire_due_orders(limit=10) == 0
    ends = [fold(event_store.load(order_id)) for order_id in (busy, free)]
    assert [order.status for order in ends if order] == ["CONFIRMED", "EXPIRED"]
