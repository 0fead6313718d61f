"""Checks how accounts parses the events of orders."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from accounts.inbound import MalformedOrder, OrderEnded, OrderPlaced

ORDER = "0190a000-0000-7000-8000-000000000001"
USER = "0190a000-0000-7000-8000-000000000002"
PLACED: dict[str, Any] = {"id": ORDER, "user_id": USER, "total": "12.30", "lines": [], "extra": 1}


def test_a_placed_order_is_parsed_and_unused_fields_are_ignored() -> None:
    assert OrderPlaced.parse(PLACED) == OrderPlaced(
        order_id=UUID(ORDER), user_id=UUID(USER), total=Decimal("12.30")
    )


def test_an_ended_order_is_parsed() -> None:
    assert OrderEnded.parse({"id": ORDER}) == OrderEnded(order_id=UUID(ORDER))


@pytest.mark.parametrize("field", ["id", "user_id", "total"])
def test_a_missing_or_malformed_field_is_named(field: str) -> None:
    with pytest.raises(MalformedOrder, match=field):
        OrderPlaced.parse({name: value for name, value in PLACED.items() if name != field})
    for value in (None, 7, True, [], {}, "", "x", "\0"):
        with pytest.raises(MalformedOrder, match=f"orders sent an invalid {field}: ") as caught:
            OrderPlaced.parse(PLACED | {field: value})
        assert (caught.value.field, caught.value.value) == (field, value)


@pytest.mark.parametrize(
    "total",
    ["-1.00", "1", "1.0", "1.000", "NaN", "Infinity", "1e3", " 1.00", "1.00\n", "1_0.00", "١.٠٠"],
)
def test_an_amount_without_exactly_two_decimal_places_is_refused(total: str) -> None:
    with pytest.raises(MalformedOrder, match="total"):
        OrderPlaced.parse(PLACED | {"total": total})


def test_an_amount_wider_than_its_column_is_refused() -> None:
    assert OrderPlaced.parse(PLACED | {"total": "9" * 16 + ".99"}).total > 0
    with pytest.raises(MalformedOrder, match="total"):
        OrderPlaced.parse(PLACED | {"total": "9" * 17 + ".99"})


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(MalformedOrder) as caught:
        OrderEnded.parse({"id": "x" * 10_000})
    assert len(str(caught.value)) < 200
