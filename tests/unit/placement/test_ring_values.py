"""The ring stores only plain data, and never runs code from a stored value."""

from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.ring import values as ring_values
from placement.ring.values import Entry, NotAValue, NotCacheable

SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.binary() | st.uuids()
    | st.floats(allow_nan=False) | st.decimals(allow_nan=False) | st.datetimes() | st.dates()
    | st.times() | st.timedeltas()
)  # fmt: skip
ANYTHING = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(ANYTHING)
def test_plain_data_round_trips(value: object) -> None:
    stored = ring_values.encode(value, load_ms=3)
    entry = ring_values.decode(stored.text)

    assert entry.value == value
    assert type(entry.value) is type(value)
    assert entry.version == stored.version


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda junk: b"r2 - 0 " + junk))
def test_garbage_is_refused_or_decoded_as_plain_data(junk: bytes) -> None:
    try:
        entry = ring_values.decode(junk)
    except NotAValue:
        return
    assert isinstance(entry, Entry)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x04list\x94.",  # a pickle
        b'r1 - 0 "older"',
        b'r3 - 0 "newer"',
        b"r2 - 0 \x92\x01",  # a list that ends too early
        b"r2 - 0",
        b"r2 - 0 \x01\x02",
        b"r2 x 0 \x01",
        b"r2 - 0 \xc7\x01\x63\x01",  # an extension with an unknown code
        b"r2 - 0 \xc7\x05\x04\xa4much",  # a malformed Decimal
        b"r2 - 0 \xc7\x02\x01\x91\x90",  # a set that contains a list
        b"r2 - 0 \xc7\x01\x0b\x01",  # an extension with content of the wrong type
        b"r2 - 0 \xc7\x11\x09\xb0" + b"0" * 16,
        b"r2 - 0 " + b"\x91" * 100_000,
    ],
)
def test_a_value_of_another_release_is_refused(stored: bytes) -> None:
    with pytest.raises(NotAValue):
        ring_values.decode(stored)


@dataclass
class Thing:
    number: int


@pytest.mark.parametrize("value", [Thing(1), len, {"deep": [Thing(1)]}, OrderedDict(), 1j, Thing])
def test_a_value_that_is_not_plain_data_is_refused_with_its_type(value: object) -> None:
    with pytest.raises(NotCacheable, match=r"plain data, not [\w.]+: store its fields"):
        ring_values.encode(value)


@pytest.mark.parametrize(
    ("value", "version"),
    [
        ((3, {"name": "Ada"}), 3),
        ((0, None), 0),
        ((True, "a boolean is not a version"), None),
        ((-1, "x"), None),
        ((2**53, "x"), None),
        ((1, 2, 3), None),
        ([1, "x"], None),
        (Decimal(1), None),
    ],
)
def test_a_pair_of_a_number_and_a_value_is_versioned(value: object, version: int | None) -> None:
    stored = ring_values.encode(value)

    assert stored.version == version
    assert ring_values.decode(stored.text).version == version


def test_an_integer_is_stored_as_digits_so_that_a_node_can_count() -> None:
    assert ring_values.encode(42).text == b"42"
    assert ring_values.encode(True).text != b"1"
