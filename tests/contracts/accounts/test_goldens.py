"""Compares goldens with the events that accounts publishes and the events that accounts reads.

A golden never changes: consumers depend on it. A new format gets a new version and a new golden.
`write_missing` writes the golden of a new type.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from accounts.consumers import CONSUMERS
from accounts.domain import events
from accounts.domain.state import UserState
from accounts.inbound import OrderEnded, OrderPlaced
from accounts.published import TYPES, envelope
from outbox.consumer import ignore
from outbox.envelope import Envelope

HERE = Path(__file__).parent
ORDERS = HERE.parent / "orders"
ORDER_ID = UUID("0190a000-0000-7000-8000-0000000000b1")
EVENT_ID = UUID("0190a000-0000-7000-8000-0000000000e1")
ADA = UserState(
    id=UUID("0190a000-0000-7000-8000-0000000000a1"),
    name="Ada Lovelace",
    email="Ada@example.com",
    credit_limit=Decimal("1000.00"),
    credit_reserved=Decimal(0),
    is_staff=False,
    is_active=True,
    version=1,
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    updated_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
)
LATER = replace(ADA, version=2, updated_at=datetime(2026, 1, 3, tzinfo=UTC))
HOLDING = replace(LATER, credit_reserved=Decimal("12.30"))
CREDIT: dict[str, Any] = {"order_id": ORDER_ID, "amount": Decimal("12.30")}
EVENTS: list[events.Event] = [
    events.UserRegistered(user=ADA),
    events.UserUpdated(user=replace(LATER, name="Ada King"), changed=("name",)),
    events.UserDeactivated(user=replace(LATER, is_active=False), changed=("is_active",)),
    events.UserErased(user_id=ADA.id, version=3, erased_at=LATER.updated_at),
    events.CreditReserved(user=HOLDING, **CREDIT),
    events.CreditReleased(user=replace(LATER, version=3), **CREDIT),
    events.CreditRefused(
        user=replace(HOLDING, credit_reserved=Decimal("999.99")),
        user_id=ADA.id,
        reason=events.RefusalReason.INSUFFICIENT_CREDIT,
        refused_at=LATER.updated_at,
        **CREDIT,
    ),
]


def golden_of(type_: str) -> Path:
    return HERE / f"{type_}.json"


def encoded(event: events.Event) -> dict[str, Any]:
    return dict(json.loads(structs.replace(envelope(event), id=EVENT_ID).encode()))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_published_event_equals_its_golden(event: events.Event) -> None:
    golden = golden_of(TYPES[type(event)])
    assert encoded(event) == json.loads(golden.read_text(encoding="utf-8"))


def test_every_public_type_has_a_golden_and_every_golden_a_type() -> None:
    goldens = {path.stem for path in HERE.glob("*.json")}
    assert goldens == set(TYPES.values())
    assert {type(event) for event in EVENTS} == set(TYPES)


def test_the_reasons_of_a_refusal_are_part_of_the_contract() -> None:
    reasons = {"insufficient_credit", "unknown_user", "inactive_user", "order_ended"}
    assert {reason.value for reason in events.RefusalReason} == reasons


def orders_goldens() -> list[Path]:
    return sorted(ORDERS.glob("orders.*.json"))


@pytest.mark.parametrize("golden", orders_goldens(), ids=lambda path: path.stem)
def test_accounts_can_read_every_event_of_orders(golden: Path) -> None:
    event = Envelope.decode(golden.read_text(encoding="utf-8"))
    handler = CONSUMERS["credit"].get(event.type)
    assert handler is not None, f"accounts would park {event.type}"
    if event.type == "orders.order.placed.v1":
        placed = OrderPlaced.parse(event.data)
        assert str(placed.order_id) == event.subject
        assert f"{placed.total:.2f}" == event.data["total"]
    elif handler is not ignore:
        assert str(OrderEnded.parse(event.data).order_id) == event.subject


def write_missing() -> None:
    for event in EVENTS:
        golden = golden_of(TYPES[type(event)])
        if not golden.exists():
            golden.write_text(json.dumps(encoded(event), indent=2) + "\n", encoding="utf-8")
