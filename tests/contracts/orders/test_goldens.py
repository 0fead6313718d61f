"""Compares goldens with the events that orders publishes, stores and reads.

A golden never changes: consumers read public events, and databases contain stored events. A new
format gets a new version and a new golden. `write_missing` writes the golden of a new type.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from orders.consumers import CONSUMERS
from orders.domain.codec import CODECS, Encoded, decode, encode
from orders.domain.events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from orders.domain.lines import Line
from orders.domain.order import evolve, fold
from orders.inbound import (
    CreditChanged,
    CreditRefused,
    CreditReserved,
    CustomerChanged,
    CustomerErased,
    OrderChanged,
)
from orders.published import PUBLIC_TYPES, UPDATED, announce, announce_current
from outbox.consumer import ignore
from outbox.envelope import Envelope

HERE = Path(__file__).parent
STORED = HERE / "stored"
ACCOUNTS = HERE.parent / "accounts"
ORDER_ID = UUID("0190a000-0000-7000-8000-0000000000b1")
EVENT_ID = UUID("0190a000-0000-7000-8000-0000000000e1")
PLACED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = PLACED_AT + timedelta(minutes=1)

PLACED = OrderPlaced(
    order_id=ORDER_ID,
    user_id=UUID("0190a000-0000-7000-8000-0000000000a1"),
    lines=(
        Line(sku="tea", quantity=2, unit_price=Decimal("4.50")),
        Line(sku="Kännchen 茶", quantity=1, unit_price=Decimal("3.30")),
    ),
    at=PLACED_AT,
)
EVENTS: list[Event] = [
    PLACED,
    OrderConfirmed(order_id=ORDER_ID, at=LATER),
    OrderRejected(order_id=ORDER_ID, reason="insufficient_credit", at=LATER),
    OrderCancelled(order_id=ORDER_ID, at=LATER),
    OrderExpired(order_id=ORDER_ID, at=LATER),
    OrderDisowned(order_id=ORDER_ID, user_id=PLACED.user_id, at=LATER),
]

# The parsers of each event type of accounts: one per consumer that doesn't ignore the type.
READINGS: dict[str, list[Callable[[Envelope], Any]]] = {
    "accounts.user.registered.v1": [CustomerChanged.parse],
    "accounts.user.updated.v1": [CustomerChanged.parse],
    "accounts.user.deactivated.v1": [CustomerChanged.parse],
    "accounts.user.erased.v1": [CustomerErased.parse],
    "accounts.credit.reserved.v1": [CreditReserved.parse, CreditChanged.parse],
    "accounts.credit.released.v1": [CreditChanged.parse],
    "accounts.credit.refused.v1": [CreditRefused.parse],
}


def published(event: Event) -> dict[str, Any]:
    """Returns the public form of `event`, which is the first of an order or follows its placing."""
    order = evolve(None if event is PLACED else fold([PLACED]), event)
    return dict(json.loads(structs.replace(announce(event, order), id=EVENT_ID).encode()))


def golden_of(event: Event) -> Path:
    return HERE / f"{PUBLIC_TYPES[type(event)]}.json"


def stored_golden_of(event: Event) -> Path:
    encoded = encode(event)
    return STORED / f"{encoded.type}.v{encoded.schema_version}.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def name_of(value: Any) -> str:
    return value.stem if isinstance(value, Path) else type(value).__name__


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_a_published_event_equals_its_golden(event: Event) -> None:
    assert published(event) == read(golden_of(event))


def test_every_public_type_has_a_golden_and_every_golden_a_type() -> None:
    types = {*PUBLIC_TYPES.values(), UPDATED}
    assert {path.stem for path in HERE.glob("*.json")} == types


def test_a_backfilled_order_equals_its_golden() -> None:
    backfilled = structs.replace(announce_current(fold([PLACED, EVENTS[1]])), id=EVENT_ID)
    assert json.loads(backfilled.encode()) == read(HERE / f"{UPDATED}.json")


@pytest.mark.parametrize("golden", sorted(HERE.glob("*.json")), ids=name_of)
def test_the_order_view_can_read_every_event_of_orders(golden: Path) -> None:
    envelope = Envelope.decode(golden.read_text(encoding="utf-8"))
    assert envelope.type in CONSUMERS["order_view"]
    shown = OrderChanged.parse(envelope)
    assert (str(shown.id), shown.version) == (envelope.subject, envelope.sequence)
    assert list(shown.lines) == envelope.data["lines"]


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_a_stored_event_equals_its_golden(event: Event) -> None:
    assert asdict(encode(event)) == read(stored_golden_of(event))


@pytest.mark.parametrize("golden", sorted(STORED.glob("*.json")), ids=name_of)
def test_every_version_ever_stored_can_be_read(golden: Path) -> None:
    encoded = Encoded(**read(golden))
    assert golden.stem == f"{encoded.type}.v{encoded.schema_version}"
    (expected,) = [event for event in EVENTS if type(event).__name__ == encoded.type]
    assert decode(encoded, order_id=ORDER_ID) == expected


def test_every_version_of_every_stored_type_has_a_golden() -> None:
    versions = {
        f"{name}.v{version}"
        for name, codec in CODECS.items()
        for version in (*codec.upcasters, codec.schema_version)
    }
    assert {path.stem for path in STORED.glob("*.json")} == versions


# All fields that an event of an order may have. No field is personal: erasure changes no event.
ORDER_FIELDS = {
    "id", "user_id", "status", "lines", "sku", "quantity", "unit_price", "total", "reason",
    "version", "placed_at", "updated_at", "at",
}  # fmt: skip


@pytest.mark.parametrize(
    "golden", [*sorted(HERE.glob("*.json")), *sorted(STORED.glob("*.json"))], ids=name_of
)
def test_events_of_orders_hold_no_personal_data(golden: Path) -> None:
    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(names, value.values()))
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    assert names(read(golden)["data"]) <= ORDER_FIELDS


@pytest.mark.parametrize("golden", sorted(ACCOUNTS.glob("*.json")), ids=name_of)
def test_orders_can_read_every_event_of_accounts(golden: Path) -> None:
    envelope = Envelope.decode(golden.read_text(encoding="utf-8"))
    for consumer in ("saga", "customer_view"):
        assert envelope.type in CONSUMERS[consumer], f"{consumer} would park {envelope.type}"
    handlers = [CONSUMERS[name][envelope.type] for name in ("saga", "customer_view")]
    handled = [getattr(each, "handle", each) is not ignore for each in handlers]
    readings = READINGS[envelope.type]
    assert len(readings) == sum(handled)
    for parse in readings:
        found = parse(envelope)
        ours = {getattr(found, name) for name in ("id", "user_id") if hasattr(found, name)}
        assert {str(id_) for id_ in ours} <= {envelope.subject}
        assert getattr(found, "version", envelope.sequence) == envelope.sequence


def write_missing() -> None:
    for event in EVENTS:
        for path, content in (
            (golden_of(event), published(event)),
            (stored_golden_of(event), asdict(encode(event))),
        ):
            if not path.exists():
                text = json.dumps(content, indent=2, ensure_ascii=False)
                path.write_text(text + "\n", encoding="utf-8")
