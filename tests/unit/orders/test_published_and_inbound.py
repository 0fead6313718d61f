"""Checks the public events of orders, and how orders parses its own and accounts' events."""

from contextlib import suppress
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain.commands import Command, PlaceOrder
from orders.domain.errors import OrderError
from orders.domain.events import Event, OrderRejected
from orders.domain.lines import Line
from orders.domain.order import Order, Status, decide, evolve
from orders.inbound import (
    CreditChanged,
    CreditRefused,
    CreditReserved,
    CustomerChanged,
    Malformed,
    OrderChanged,
)
from orders.published import PUBLIC_TYPES, announce, represent
from outbox.envelope import Envelope
from tests.unit.orders.examples import NOON, ORDER_ID, USER_ID, baskets, commands, order_in

CREDIT = {
    "order_id": str(ORDER_ID),
    "user_id": str(USER_ID),
    "amount": "40.00",
    "reason": "",
    "credit_limit": "1000.00",
    "credit_reserved": "40.00",
    "version": 2,
}
USER = {
    "id": str(USER_ID),
    "name": "Ada",
    "email": "ada@example.org",
    "credit_limit": "1000.00",
    "credit_reserved": "0.00",
    "is_active": True,
    "version": 1,
    "created_at": "2025-01-02T12:00:00.000000Z",
    "updated_at": "2025-01-02T12:00:00.000000Z",
}


def envelope(data: dict[str, Any], *, type_: str = "accounts.some.event.v1") -> Envelope:
    return Envelope(type=type_, subject="s", partitionkey="s", sequence=1, data=data, time=NOON)


def placed(lines: tuple[Line, ...]) -> tuple[Event, Order]:
    command = PlaceOrder(order_id=ORDER_ID, user_id=USER_ID, lines=lines)
    (event,) = decide(None, command, at=NOON)
    return event, evolve(None, event)


def test_every_event_has_its_own_public_type() -> None:
    assert set(PUBLIC_TYPES) == set(get_args(Event))
    assert len(set(PUBLIC_TYPES.values())) == len(PUBLIC_TYPES)


def test_an_announcement_carries_the_order_after_the_event() -> None:
    event = OrderRejected(order_id=ORDER_ID, reason="unknown_user", at=NOON)
    order = evolve(order_in(Status.PENDING), event)
    public = announce(event, order, traceparent="00-trace")
    assert public.type == "orders.order.rejected.v1"
    assert public.subject == public.partitionkey == str(ORDER_ID)
    assert (public.sequence, public.time, public.traceparent) == (2, NOON, "00-trace")
    assert public.data["status"] == "REJECTED"
    assert public.data["reason"] == "unknown_user"


@given(baskets)
def test_an_announcement_is_parsed_as_the_order(lines: tuple[Line, ...]) -> None:
    event, order = placed(lines)
    received = Envelope.decode(announce(event, order).encode())
    shown = OrderChanged.parse(received)
    assert (shown.id, shown.user_id, shown.status) == (order.id, order.user_id, order.status)
    assert (shown.total, shown.version) == (order.total, order.version)
    assert list(shown.lines) == represent(order)["lines"]
    assert (shown.placed_at, shown.updated_at) == (order.placed_at, order.updated_at)


@given(baskets, st.lists(commands, max_size=3))
def test_a_replayed_order_equals_its_parsed_announcement(
    lines: tuple[Line, ...], given_commands: list[Command]
) -> None:
    event, order = placed(lines)
    for minute, command in enumerate(given_commands, start=1):
        with suppress(OrderError):
            for event in decide(order, command, at=NOON + timedelta(minutes=minute)):
                order = evolve(order, event)
    received = Envelope.decode(announce(event, order).encode())
    assert OrderChanged.of(order) == OrderChanged.parse(received)


def test_credit_events_are_parsed() -> None:
    reserved = CreditReserved.parse(envelope(CREDIT))
    assert (reserved.order_id, reserved.user_id) == (ORDER_ID, USER_ID)
    refused = CreditRefused.parse(envelope({**CREDIT, "reason": "insufficient_credit"}))
    assert (refused.order_id, refused.reason) == (ORDER_ID, "insufficient_credit")
    changed = CreditChanged.parse(envelope(CREDIT))
    assert (changed.user_id, changed.version, changed.updated_at) == (USER_ID, 2, NOON)
    data = {**CREDIT, "reason": "unknown_user", "version": 0, "credit_limit": "0.00"}
    assert CreditRefused.parse(envelope(data)).reason == "unknown_user"


def test_an_unknown_field_is_ignored() -> None:
    customer = CustomerChanged.parse(envelope({**USER, "shoe_size": 41}))
    assert (customer.id, customer.name, customer.is_active) == (USER_ID, "Ada", True)


@pytest.mark.parametrize("field", sorted(USER))
def test_a_customer_with_a_missing_or_malformed_field_is_refused(field: str) -> None:
    without = {name: value for name, value in USER.items() if name != field}
    values: list[Any] = [None, 1.5, []]
    if field not in ("name", "email"):  # these fields accept any text
        values.append("\ud83d")
    for data in (without, *({**USER, field: value} for value in values)):
        with pytest.raises(Malformed, match=field) as malformed:
            CustomerChanged.parse(envelope(data))
        assert malformed.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lines", "tea"),
        ("lines", [5]),
        ("lines", [{"sku": "tea"}]),
        ("lines", [{"sku": "tea", "quantity": True, "unit_price": "1.00"}]),
        ("lines", [{"sku": "tea", "quantity": 1, "unit_price": "1.0"}]),
        ("status", "EATEN"),
        ("version", 0),
        ("version", True),
        ("version", "1"),
        ("total", 40),
        ("id", 7),
        ("placed_at", "2025-01-02"),
    ],
)
def test_an_order_with_a_malformed_field_is_refused(field: str, value: Any) -> None:
    order = order_in(Status.PENDING)
    assert order is not None
    with pytest.raises(Malformed) as malformed:
        OrderChanged.parse(envelope({**represent(order), field: value}))
    assert malformed.value.field == field


def test_a_refusal_without_a_reason_is_malformed() -> None:
    with pytest.raises(Malformed, match="reason"):
        CreditRefused.parse(envelope(CREDIT))
