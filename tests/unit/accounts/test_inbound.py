"""What accounts reads of orders' events, and what it refuses to read."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from accounts.inbound import MalformedOrder, OrderEnded, OrderPlaced

ORDER = "0190a000-0000-7000-8000-000000000001"
USER = "0190a000-0000-7000-8000-000000000002"
PLACED: dict[str, Any] = {"id": ORDER, "user_id": USER, "total": "12.30", "lines": [], "extra": 1}


def test_a_placed_order_is_read_and_what_accounts_has_no_use_for_is_passed_over() -> None:
    assert OrderPlaced.parse(PLACED) == OrderPlaced(
        order_id=UUID(ORDER), user_id=UUID(USER), total=Decimal("12.30")
    )


def test_an_ended_order_is_read() -> None:
    assert OrderEnded.parse({"id": ORDER}) == OrderEnded(order_id=UUID(ORDER))


@pytest.mark.parametrize("field", ["id", "user_id", "total"])
@pytest.mark.parametrize("value", [None, 7, True, [], {}, "", "x", "\0"])
def test_a_field_that_breaks_the_contract_is_named(field: str, value: object) -> None:
    with pytest.raises(MalformedOrder, match=f"orders sent {field} = ") as caught:
        OrderPlaced.parse(PLACED | {field: value})
    assert (caught.value.field, caught.value.value) == (field, value)


@pytest.mark.parametrize("field", ["id", "user_id", "total"])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(MalformedOrder, match=field):
        OrderPlaced.parse({name: value for name, value in PLACED.items() if name != field})


@pytest.mark.parametrize(
    "total",
    ["-1.00", "1", "1.0", "1.000", "NaN", "Infinity", "1e3", " 1.00", "1.00\n", "1_0.00", "١.٠٠"],
)
def test_an_amount_is_a_text_with_two_places_and_nothing_else(total: str) -> None:
    with pytest.raises(MalformedOrder, match="total"):
        OrderPlaced.parse(PLACED | {"total": total})


def test_an_amount_wider_than_its_column_is_refused() -> None:
    assert OrderPlaced.parse(PLACED | {"total": "9" * 16 + ".99"}).total > 0
    with pytest.raises(MalformedOrder, match="total"):
        OrderPlaced.parse(PLACED | {"total": "9" * 17 + ".99"})


def test_a_long_value_is_not_repeated_whole_in_the_message() -> None:
    with pytest.raises(MalformedOrder) as caught:
        OrderEnded.parse({"id": "x" * 10_000})
    assert len(str(caught.value)) < 200
