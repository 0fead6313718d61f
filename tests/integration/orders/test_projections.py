"""Projections show the latest version after duplicate, late or reordered events."""

import random
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID

from orders import handlers
from orders.domain.commands import CancelOrder, ConfirmOrder, RejectOrder
from orders.domain.order import Order, Status
from orders.models import CountedOrder, CustomerView, OrderView, OutboxEvent, Sales
from orders.published import announce_current
from outbox.consumer import named
from outbox.envelope import Envelope
from outbox.testing import deliver, recorded
from tests.integration.orders.conftest import ADA, LINES, NOON, Place, project


def user(fact: str, version: int, **fields: Any) -> Envelope:
    data = {
        "id": str(ADA),
        "name": "Ada",
        "email": "ada@example.org",
        "credit_limit": "1000.00",
        "credit_reserved": "0.00",
        "is_active": True,
        "version": version,
        "created_at": "2025-01-02T12:00:00.000000Z",
        "updated_at": "2025-01-02T12:00:00.000000Z",
        **fields,
    }
    return envelope_of(f"accounts.user.{fact}.v1", version, data)


def credit(fact: str, version: int, reserved: str, *, user_id: UUID = ADA) -> Envelope:
    data = {
        "order_id": str(UUID(int=1)),
        "user_id": str(user_id),
        "amount": "40.00",
        "reason": "",
        "credit_limit": "1000.00",
        "credit_reserved": reserved,
        "version": version,
    }
    return envelope_of(f"accounts.credit.{fact}.v1", version, data)


def envelope_of(type_: str, version: int, data: dict[str, Any]) -> Envelope:
    return Envelope(
        type=type_,
        subject=str(ADA),
        partitionkey=str(ADA),
        sequence=version,
        data=data,
        time=NOON,
    )


def customer() -> tuple[Any, ...]:
    return CustomerView.objects.values_list("name", "credit_reserved", "is_active", "version").get(
        pk=ADA
    )


def test_the_order_view_shows_every_field(place: Place) -> None:
    order = place()
    project()
    row = OrderView.objects.get(pk=order.id)
    assert (row.user_id, row.status, row.version) == (ADA, "PENDING", 1)
    assert (row.total, row.reason) == (order.total, "")
    assert (row.placed_at, row.updated_at) == (order.placed_at, order.updated_at)
    assert [line["sku"] for line in row.lines] == ["tea", "pot"]
    assert row.lines[0]["unit_price"] == "4.50"


def test_the_latest_version_is_shown_in_any_order_of_events(place: Place) -> None:
    order = place()
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    handlers.cancel_order(CancelOrder(order_id=order.id))
    history = recorded(OutboxEvent)
    for shuffled in permutations(history):
        OrderView.objects.all().delete()
        for envelope in (*shuffled, shuffled[0]):  # the first event twice
            deliver(envelope, consumer="order_view")
        row = OrderView.objects.get()
        assert (row.status, row.version) == ("CANCELLED", 3)


def test_a_disowned_order_replaces_the_versions_that_a_failover_lost(place: Place) -> None:
    order = place()
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    lost = recorded(OutboxEvent)
    disowned = Order(
        id=order.id,
        user_id=ADA,
        status=Status.DISOWNED,
        lines=(),
        reason="",
        version=1,
        placed_at=order.placed_at,
        updated_at=order.updated_at,
    )
    history = [*lost, announce_current(disowned)]
    for shuffled in permutations(history):
        for model in (OrderView, CountedOrder, Sales):
            model.objects.all().delete()
        named("sales").handle_all(shuffled)  # in one batch
        for envelope in shuffled:
            deliver(envelope, consumer="order_view")
            deliver(envelope, consumer="sales")
        assert OrderView.objects.values_list("status", "version").get() == ("DISOWNED", 1)
        assert sold() == {}


def test_a_backfill_restores_a_lost_view(place: Place) -> None:
    confirmed, placed = place(), place()
    handlers.confirm_order(ConfirmOrder(order_id=confirmed.id, user_id=ADA))
    before = OutboxEvent.objects.count()
    first = handlers.backfill(after="", limit=1)
    second = handlers.backfill(after=first, limit=1)
    assert handlers.backfill(after=second, limit=1) == ""
    assert {first, second} == {str(confirmed.id), str(placed.id)}
    for envelope in recorded(OutboxEvent)[before:]:
        deliver(envelope, consumer="order_view")
    shown = dict(OrderView.objects.values_list("id", "status"))
    assert shown == {confirmed.id: "CONFIRMED", placed.id: "PENDING"}


def test_a_projection_announces_nothing(place: Place) -> None:
    place()
    before = OutboxEvent.objects.count()
    project()
    project()
    assert OutboxEvent.objects.count() == before
    assert OrderView.objects.count() == 1


def test_a_customer_is_shown_and_kept_up_to_date() -> None:
    deliver(user("registered", 1), consumer="customer_view")
    assert customer() == ("Ada", 0, True, 1)
    deliver(credit("reserved", 2, "40.00"), consumer="customer_view")
    assert customer() == ("Ada", 40, True, 2)
    deliver(user("updated", 3, name="Ada L.", credit_reserved="40.00"), consumer="customer_view")
    deliver(credit("released", 4, "0.00"), consumer="customer_view")
    deliver(user("deactivated", 5, name="Ada L.", is_active=False), consumer="customer_view")
    assert customer() == ("Ada L.", 0, False, 5)


def test_a_duplicate_or_late_customer_event_changes_nothing() -> None:
    deliver(user("registered", 1), consumer="customer_view")
    deliver(credit("reserved", 3, "40.00"), consumer="customer_view")
    for late in (
        user("registered", 1, name="Old"),
        user("updated", 2, name="Old"),
        credit("reserved", 2, "10.00"),
        credit("released", 3, "0.00"),
    ):
        deliver(late, consumer="customer_view")
    assert customer() == ("Ada", 40, True, 3)


def test_a_backfilled_customer_repairs_a_damaged_row() -> None:
    deliver(user("registered", 1), consumer="customer_view")
    CustomerView.objects.update(name="Damaged")
    deliver(user("updated", 1), consumer="customer_view")
    assert customer() == ("Ada", 0, True, 1)


def test_credit_of_an_unknown_customer_creates_no_row() -> None:
    deliver(credit("reserved", 2, "40.00"), consumer="customer_view")
    assert not CustomerView.objects.exists()
    deliver(user("updated", 3, credit_reserved="40.00"), consumer="customer_view")
    assert customer() == ("Ada", 40, True, 3)


def test_a_refusal_leaves_the_customer_unchanged(place: Place) -> None:
    deliver(user("registered", 1), consumer="customer_view")
    envelope = credit("refused", 1, "0.00")
    data = {**envelope.data, "order_id": str(place().id), "reason": "insufficient_credit"}
    for consumer in ("customer_view", "saga"):
        deliver(envelope_of("accounts.credit.refused.v1", 1, data), consumer=consumer)
        assert customer() == ("Ada", 0, True, 1), consumer


def sold() -> dict[str, tuple[int, int, str]]:
    """The sales of the only day, as {SKU: (orders, quantity, revenue)}."""
    rows = Sales.objects.values_list("sku", "orders", "quantity", "revenue")
    return {sku: (orders, quantity, str(revenue)) for sku, orders, quantity, revenue in rows}


def deliver_to_sales() -> None:
    for envelope in recorded(OutboxEvent):
        deliver(envelope, consumer="sales")


BOTH = {"tea": (1, 2, "9.00"), "pot": (1, 1, "31.00")}


def test_only_confirmed_orders_are_sales(clock: None, place: Place) -> None:
    order, rejected = place(), place()
    handlers.reject_order(
        RejectOrder(order_id=rejected.id, user_id=ADA, reason="insufficient_credit")
    )
    deliver_to_sales()
    assert sold() == {}
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    deliver_to_sales()
    assert sold() == BOTH
    assert set(Sales.objects.values_list("day", flat=True)) == {order.placed_at.date()}


def test_a_cancelled_sale_is_subtracted(clock: None, place: Place) -> None:
    order, other = place(), place()
    for one in (order, other):
        handlers.confirm_order(ConfirmOrder(order_id=one.id, user_id=ADA))
    deliver_to_sales()
    assert sold() == {"tea": (2, 4, "18.00"), "pot": (2, 2, "62.00")}
    handlers.cancel_order(CancelOrder(order_id=order.id))
    deliver_to_sales()
    assert sold() == BOTH
    handlers.cancel_order(CancelOrder(order_id=other.id))
    deliver_to_sales()
    assert sold() == {}


def test_a_sale_counts_once_under_duplicate_and_reordered_events(clock: None, place: Place) -> None:
    order, cancelled = place(), place()
    for one in (order, cancelled):
        handlers.confirm_order(ConfirmOrder(order_id=one.id, user_id=ADA))
    handlers.cancel_order(CancelOrder(order_id=cancelled.id))
    handlers.backfill(after="", limit=10)
    history = recorded(OutboxEvent)
    dice = random.Random(5)  # noqa: S311
    for _ in range(20):
        Sales.objects.all().delete()
        CountedOrder.objects.all().delete()
        events = dice.sample(history * 2, 2 * len(history))
        while events:  # in groups of random length, as in a reader
            length = dice.randint(1, 5)
            named("sales").handle_all(events[:length])
            del events[:length]
        for envelope in history:
            deliver(envelope, consumer="sales")
        assert sold() == BOTH


def test_an_order_with_a_sku_twice_counts_as_one_order(place: Place) -> None:
    line = LINES[0]
    order = place(lines=(line, replace(line, quantity=3)))
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    deliver_to_sales()
    assert sold() == {"tea": (1, 5, "22.50")}
