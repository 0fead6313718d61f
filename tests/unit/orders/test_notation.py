"""Checks how amounts and times are written as text and read from text."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain.notation import read_amount, read_time, write_amount, write_time
from tests.unit.orders.examples import times


@given(st.decimals(min_value=-9999999999, max_value=9999999999, places=2))
def test_an_amount_is_read_as_it_was_written(amount: Decimal) -> None:
    assert read_amount(write_amount(amount)) == amount


@given(times)
def test_a_time_is_read_as_it_was_written(time: datetime) -> None:
    assert read_time(write_time(time)) == time


def test_a_time_is_written_in_utc_with_microseconds() -> None:
    noon_in_tokyo = datetime(2025, 1, 2, 12, tzinfo=timezone(timedelta(hours=9)))
    assert write_time(noon_in_tokyo) == "2025-01-02T03:00:00.000000Z"
    assert read_time("2025-01-02T03:00:00.000000Z").tzinfo == UTC


def test_a_fraction_of_a_cent_is_refused() -> None:
    assert write_amount(Decimal("12.3")) == "12.30"
    with pytest.raises(ValueError, match="two decimal places"):
        write_amount(Decimal("0.005"))


@pytest.mark.parametrize(
    "text", [None, 1, 1.5, "", "1", "1.5", "1.555", "1e3", "NaN", "٣.٥٠", "1.50 "]
)
def test_a_malformed_amount_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        read_amount(text)


@pytest.mark.parametrize("text", [None, 5, "", "Z", "yesterday", "2025-01-02T12:00:00+00:00"])
def test_a_malformed_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat"):
        read_time(text)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        write_time(datetime(2025, 1, 2))  # noqa: DTZ001
