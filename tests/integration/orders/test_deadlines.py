"""The sweep expires every overdue order, even if the expiry of another order fails."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, router
from django.utils import timezone
from uuid_utils.compat import uuid7

from orders import event_store, handlers, tasks
from orders.domain.commands import CancelOrder, ConfirmOrder
from orders.domain.errors import OrderNotFound
from orders.domain.order import fold
from orders.models import OrderDeadline, StoredEvent
from tests.integration.orders.conftest import ADA, Place, announced


@pytest.fixture(autouse=True)
def _overdue(settings: Any) -> None:
    settings.ORDERS_DEADLINE_SECONDS = -60


def test_an_order_past_its_deadline_expires(place: Place) -> None:
    order_id = place().id
    assert handlers.expire_due_orders(limit=10) == 1
    order = fold(event_store.load(order_id))
    assert order is not None
    assert (order.status, order.version) == ("EXPIRED", 2)
    assert announced() == ["placed", "expired"]
    assert handlers.expire_due_orders(limit=10) == 0


def test_an_order_before_its_deadline_stays_pending(place: Place, settings: Any) -> None:
    settings.ORDERS_DEADLINE_SECONDS = 3600
    place()
    assert handlers.expire_due_orders(limit=10) == 0
    assert announced() == ["placed"]


def test_decided_orders_have_no_deadline(place: Place) -> None:
    handlers.confirm_order(ConfirmOrder(order_id=place().id, user_id=ADA))
    handlers.cancel_order(CancelOrder(order_id=place().id))
    assert handlers.expire_due_orders(limit=10) == 0


def test_a_sweep_expires_the_oldest_orders_up_to_its_limit(place: Place) -> None:
    orders = [place().id for _ in range(3)]
    assert handlers.expire_due_orders(limit=2) == 2
    assert list(OrderDeadline.objects.values_list("order_id", flat=True)) == orders[2:]


def test_an_order_that_cannot_expire_is_reported_after_the_rest_expired(place: Place) -> None:
    OrderDeadline.objects.create(order_id=uuid7(), due_at=timezone.now() - timedelta(hours=1))
    place()
    with pytest.raises(ExceptionGroup) as failures:
        handlers.expire_due_orders(limit=10)
    assert [type(failure) for failure in failures.value.exceptions] == [OrderNotFound]
    assert announced() == ["placed", "expired"]


def test_the_task_sweeps_and_is_scheduled_on_the_orders_queue(place: Place) -> None:
    place()
    assert tasks.expire_orders() == 1
    entry = tasks.BEAT["orders-expire"]
    assert entry["task"] == tasks.expire_orders.name == "orders.expire_orders"
    assert entry["options"]["queue"] == "orders"


@pytest.mark.parametrize("event", ["OrderEaten", "OrderRejected"], ids=["unknown", "damaged"])
def test_orders_that_cannot_be_read_wait_behind_the_others(place: Place, event: str) -> None:
    unreadable = [place().id for _ in range(2)]
    with connections[router.db_for_write(StoredEvent)].cursor() as cursor:
        for order_id in unreadable:
            cursor.execute(
                "INSERT INTO orders_storedevent"
                " (stream, version, type, schema_version, data, metadata)"
                """ VALUES (%s, 2, %s, 1, '{"at": "2025-01-02T12:00:00Z"}', '{}')""",
                [order_id, event],
            )
    readable = place().id
    with pytest.raises(ExceptionGroup, match="could not be expired") as failures:
        handlers.expire_due_orders(limit=2)
    assert len(failures.value.exceptions) == 2
    assert handlers.expire_due_orders(limit=2) == 1
    waiting = OrderDeadline.objects.filter(due_at__gt=timezone.now())
    assert set(waiting.values_list("order_id", flat=True)) == set(unreadable)
    assert not OrderDeadline.objects.filter(order_id=readable).exists()
