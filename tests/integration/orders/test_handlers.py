"""A handler stores an event, its outbox row and the deadline together, or stores nothing."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.db import router, transaction
from uuid_utils.compat import uuid7

from orders import event_store, handlers
from orders.domain.commands import (
    CancelOrder,
    ConfirmOrder,
    ExpireOrder,
    PlaceOrder,
    RejectOrder,
)
from orders.domain.errors import InvalidLines, OrderEnded, OrderExists, OrderNotFound
from orders.domain.metadata import Metadata
from orders.domain.order import Status, fold
from orders.models import OrderDeadline, OutboxEvent, StoredEvent
from orders.published import PUBLIC_TYPES, represent
from outbox.testing import recorded
from tests.integration.orders.conftest import ADA, LINES, NOON, Place, announced

WAYS = {
    Status.CONFIRMED: lambda order_id: handlers.confirm_order(
        ConfirmOrder(order_id=order_id, user_id=ADA)
    ),
    Status.REJECTED: lambda order_id: handlers.reject_order(
        RejectOrder(order_id=order_id, user_id=ADA, reason="insufficient_credit")
    ),
    Status.CANCELLED: lambda order_id: handlers.cancel_order(CancelOrder(order_id=order_id)),
    Status.EXPIRED: lambda order_id: handlers.expire_order(ExpireOrder(order_id=order_id)),
}


def test_placing_stores_one_event_and_announces_it(place: Place) -> None:
    order = place()
    (row,) = StoredEvent.objects.all()
    (envelope,) = recorded(OutboxEvent)
    assert (row.stream, row.version, row.type) == (order.id, 1, "OrderPlaced")
    assert (envelope.type, envelope.sequence) == ("orders.order.placed.v1", 1)
    assert envelope.subject == envelope.partitionkey == str(order.id)
    assert envelope.data == represent(order)
    assert fold(event_store.load(order.id)) == order


def test_a_new_order_gets_its_deadline(place: Place, settings: Any) -> None:
    settings.ORDERS_DEADLINE_SECONDS = 60
    order = place()
    deadline = OrderDeadline.objects.get(order_id=order.id)
    assert deadline.due_at == order.placed_at + timedelta(seconds=60)


def test_each_change_stores_and_announces_one_event_and_clears_the_deadline(
    place: Place,
) -> None:
    for status, change in WAYS.items():
        order = change(place().id)
        assert (order.status, order.version) == (status, 2)
        stored = list(event_store.load(order.id))
        envelopes = recorded(OutboxEvent)[-2:]
        assert [PUBLIC_TYPES[type(event)] for event in stored] == [
            envelope.type for envelope in envelopes
        ]
        assert envelopes[-1].data == represent(order)
    assert StoredEvent.objects.count() == OutboxEvent.objects.count() == 2 * len(WAYS)
    assert not OrderDeadline.objects.exists()


def test_a_second_ending_is_ignored_or_refused_and_stores_nothing(place: Place) -> None:
    pairs = set(product(WAYS, WAYS)) - {(Status.CONFIRMED, Status.CANCELLED)}
    for first, second in pairs:
        order_id = place().id
        after = WAYS[first](order_id)
        if second is Status.CANCELLED:
            with pytest.raises(OrderEnded):
                WAYS[second](order_id)
        else:
            assert WAYS[second](order_id) == after
    assert StoredEvent.objects.count() == OutboxEvent.objects.count() == 2 * len(pairs)


def test_a_confirmed_order_can_be_cancelled(place: Place) -> None:
    order_id = place().id
    WAYS[Status.CONFIRMED](order_id)
    assert WAYS[Status.CANCELLED](order_id).version == 3
    assert announced() == ["placed", "confirmed", "cancelled"]


def test_a_command_for_an_unknown_order_is_an_error() -> None:
    for status in (Status.CANCELLED, Status.EXPIRED):
        with pytest.raises(OrderNotFound):
            WAYS[status](uuid7())
    assert not OutboxEvent.objects.exists()


def test_a_disowned_id_can_never_be_placed() -> None:
    order_id = uuid7()
    assert WAYS[Status.CONFIRMED](order_id).status is Status.DISOWNED
    with pytest.raises(OrderExists):
        handlers.place_order(PlaceOrder(order_id=order_id, user_id=ADA, lines=LINES))
    assert not OrderDeadline.objects.exists()
    assert announced() == ["disowned"]


def test_a_second_order_with_the_same_id_is_refused(place: Place) -> None:
    order = place()
    with pytest.raises(OrderExists):
        handlers.place_order(PlaceOrder(order_id=order.id, user_id=ADA, lines=LINES))
    assert OrderDeadline.objects.filter(order_id=order.id).exists()
    assert announced() == ["placed"]


def test_lines_beyond_the_limits_store_nothing() -> None:
    with pytest.raises(InvalidLines):
        handlers.place_order(PlaceOrder(order_id=uuid7(), user_id=ADA, lines=()))
    assert_nothing_was_kept()


@pytest.mark.parametrize("step", ["nudge_on_commit", "OrderDeadline.objects.create"])
def test_a_failure_at_any_step_leaves_neither_event_nor_announcement(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("simulated failure")

    monkeypatch.setattr(f"orders.handlers.{step}", fail)
    with pytest.raises(RuntimeError):
        handlers.place_order(PlaceOrder(order_id=uuid7(), user_id=ADA, lines=LINES))
    assert_nothing_was_kept()


def test_a_failed_change_keeps_the_deadline(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    order = place()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("simulated failure")

    monkeypatch.setattr("orders.handlers.nudge_on_commit", fail)
    with pytest.raises(RuntimeError):
        WAYS[Status.CONFIRMED](order.id)
    assert OrderDeadline.objects.filter(order_id=order.id).exists()
    assert [row.version for row in event_store.stored(order.id)] == [1]


def test_handlers_join_an_open_transaction(place: Place) -> None:
    alias = router.db_for_write(StoredEvent)
    with transaction.atomic(using=alias):
        order = place()
        WAYS[Status.CONFIRMED](order.id)
        transaction.set_rollback(True, using=alias)
    assert_nothing_was_kept()


def test_an_event_stores_its_cause_and_trace(place: Place) -> None:
    order_id = place().id
    metadata = Metadata(causation="an event", traceparent="00-1-2-01")
    handlers.confirm_order(ConfirmOrder(order_id=order_id, user_id=ADA), metadata=metadata)
    assert StoredEvent.objects.get(version=2).metadata == {
        "causation": "an event",
        "correlation": str(order_id),
        "traceparent": "00-1-2-01",
    }
    assert recorded(OutboxEvent)[-1].traceparent == "00-1-2-01"


def test_times_come_from_the_clock_and_never_go_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.handlers.timezone.now", lambda: NOON)
    order = place()
    assert order.placed_at == NOON
    monkeypatch.setattr("orders.handlers.timezone.now", lambda: NOON - timedelta(seconds=5))
    assert WAYS[Status.CONFIRMED](order.id).updated_at == NOON


def assert_nothing_was_kept() -> None:
    for model in (StoredEvent, OutboxEvent, OrderDeadline):
        assert not model.objects.exists()
