import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.figures import (
    Faults,
    Recorded,
    by_turns,
    judge,
    percentile,
    ratio,
    until_calm,
)

HISTORY = [Recorded(key, version) for version in (1, 2, 3) for key in ("a", "b")]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values, percent):
    found = percentile(values, percent)

    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert sum(value < found for value in values) < percent / 100 * len(values)


def test_percentiles_of_a_hundred_values_are_those_values():
    values = [float(value) for value in range(1, 101)]

    assert [percentile(values, rank) for rank in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]


def test_a_percentile_of_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("values", "windows"),
    [
        ([1, 1], 0),
        ([9, 9, 1, 1, 9], 2),
        ([9, 1, 9, 1, 2], 3),
        ([9, 9, 1], 2),
        ([9], None),
        ([], None),
    ],
)
def test_until_calm_finds_two_low_values_in_a_row(values, windows):
    assert until_calm(values, at_most=2) == windows


def test_a_ratio_to_a_limit_of_zero_is_zero():
    assert ratio(3, 4) == 0.75
    assert ratio(3, 0) == 0.0


def test_events_that_arrive_once_and_in_order_have_no_faults():
    by_key = sorted(HISTORY, key=lambda event: event.key)

    assert judge(HISTORY, by_key) == Faults(lost=0, duplicated=0, reordered=0)


def test_a_missing_event_is_lost():
    assert judge(HISTORY, HISTORY[:-1]) == Faults(lost=1, duplicated=0, reordered=0)


def test_a_repeated_event_is_duplicated_and_not_also_reordered():
    applied = [*HISTORY, HISTORY[0]]

    assert judge(HISTORY, applied) == Faults(lost=0, duplicated=1, reordered=0)


def test_an_event_after_a_later_one_of_its_key_is_reordered():
    first, second, *rest = [event for event in HISTORY if event.key == "a"]

    found = judge([first, second, *rest], [second, first, *rest])

    assert found == Faults(lost=0, duplicated=0, reordered=1)


def test_measurements_run_by_turns():
    calls = []

    found = by_turns(2, a=lambda: calls.append("a") or 1.0, b=lambda: calls.append("b") or 2.0)

    assert calls == ["a", "b", "a", "b"]
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
