"""Checks the limits of an order's lines."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from orders.domain.errors import InvalidLines
from orders.domain.lines import MAX_TOTAL, Line, check_lines, is_sku, total_of
from tests.unit.orders.examples import TEA, baskets

LARGEST = Line(sku="x", quantity=1000, unit_price=Decimal("9999999.99"))


@given(baskets)
def test_common_lines_are_within_the_limits(basket: tuple[Line, ...]) -> None:
    check_lines(basket)


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 1},
        {"quantity": 1_000_000, "unit_price": Decimal("0.01")},
        {"unit_price": Decimal("0.01")},
        {"unit_price": Decimal("9999999.99")},
        {"unit_price": Decimal(5)},
        {"sku": "x" * 64},
        {"sku": "Grüner Tee 250 g"},
    ],
)
def test_values_at_the_limits_pass(change: dict[str, Any]) -> None:
    check_lines([replace(TEA, **change)])


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": 1_000_001},
        {"quantity": True},
        {"quantity": "2"},
        {"unit_price": Decimal(0)},
        {"unit_price": Decimal(-1)},
        {"unit_price": Decimal("0.001")},
        {"unit_price": Decimal("1.005")},
        {"unit_price": Decimal(10000000)},
        {"unit_price": Decimal("NaN")},
        {"unit_price": Decimal("Infinity")},
        {"sku": ""},
        {"sku": " tea"},
        {"sku": "x" * 65},
        {"sku": "a\x00b"},
        {"sku": "a\nb"},
        {"sku": "\ud800"},
        {"sku": 5},
    ],
)
def test_values_beyond_the_limits_are_refused_with_their_line(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidLines) as refused:
        check_lines([TEA, replace(TEA, **change)])
    assert refused.value.line == 2


@pytest.mark.parametrize("count", [0, 101])
def test_an_order_has_one_to_a_hundred_lines(count: int) -> None:
    check_lines([TEA] * 100)
    with pytest.raises(InvalidLines):
        check_lines([TEA] * count)


def test_the_total_has_its_own_limit() -> None:
    check_lines([LARGEST])
    assert total_of([LARGEST, LARGEST]) > MAX_TOTAL
    with pytest.raises(InvalidLines, match="total"):
        check_lines([LARGEST, LARGEST])


def test_a_sku_is_text() -> None:
    assert not is_sku(None)
    assert is_sku("tea")
