"""The ring stores only plain data, and never runs code from a stored value."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from django.http import (
    HttpResponse,
    HttpResponseNotModified,
    JsonResponse,
    QueryDict,
    StreamingHttpResponse,
)
from django.utils.safestring import SafeString, mark_safe
from hypothesis import given
from hypothesis import strategies as st

from placement.ring import values as ring_values
from placement.ring.values import Entry, NotAValue, NotCacheable

ZONES = st.none() | st.just(UTC) | st.timezones() | st.builds(
    timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=4)
)  # fmt: skip
SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.binary() | st.uuids()
    | st.floats(allow_nan=False) | st.decimals(allow_nan=False) | st.datetimes(timezones=ZONES)
    | st.dates() | st.times(timezones=ZONES) | st.timedeltas() | st.text().map(mark_safe)
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


@given(st.datetimes(timezones=ZONES) | st.times(timezones=ZONES), st.sampled_from([0, 1]))
def test_a_moment_keeps_its_time_zone_and_its_fold(moment: Any, fold: int) -> None:
    moment = moment.replace(fold=fold)
    found = ring_values.decode(ring_values.encode(moment).text).value

    assert found.replace(tzinfo=None) == moment.replace(tzinfo=None)
    assert (found.fold, found.tzinfo) == (fold, moment.tzinfo)
    assert type(found.tzinfo) is type(moment.tzinfo)
    assert found.tzname() == moment.tzname()


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


class Pair(NamedTuple):
    first: int


class Zone(ZoneInfo):
    """A class of which a reader couldn't make the same zone."""


@pytest.mark.parametrize(
    "value",
    [
        *(Thing(1), len, {"deep": [Thing(1)]}, 1j, Thing, Pair(1)),
        datetime(2026, 1, 2, tzinfo=Zone("Europe/Zurich")),
        StreamingHttpResponse([b"a"]),
    ],
)
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
    assert ring_values.encode(Size.LARGE).text == b"3"


class Size(IntEnum):
    LARGE = 3


class Colour(StrEnum):
    RED = "red"


class Loud(str):
    """A text that shows another text."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Loud("text"), "text"),
        ({"size": Size.LARGE}, {"size": 3}),
        ([Size.LARGE, 2**70], [3, 2**70]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({Colour.RED: OrderedDict()}, {"red": {}}),
        (QueryDict("a=1&a=2"), {"a": ["1", "2"]}),
        (type("Rows", (list,), {})([1]), [1]),
        (type("Raw", (bytes,), {})(b"\xff"), b"\xff"),
        (type("Ratio", (float,), {})(0.5), 0.5),
    ],
)
def test_a_value_of_a_subclass_is_stored_as_the_class(value: object, plain: object) -> None:
    found = ring_values.decode(ring_values.encode(value).text).value

    assert (found, repr(found)) == (plain, repr(plain))


def test_safe_text_stays_safe() -> None:
    safe, surrogate = mark_safe("<b>"), mark_safe("\ud800")

    for text in (safe, surrogate):
        found = ring_values.decode(ring_values.encode([text]).text).value
        assert found == [text]
        assert type(found[0]) is SafeString


def cookie_response() -> HttpResponse:
    response = HttpResponse("zwölf", status=418, reason="Tea only", headers={"X-Tea": "no"})
    response.set_cookie("plain", "a b;", max_age=0, samesite="Lax", secure=True, httponly=True)
    response.set_signed_cookie("signed", "value", salt="salt")
    return response


@pytest.mark.parametrize(
    "response",
    [
        cookie_response(),
        HttpResponse(b"\x00\xff", content_type="image/png"),
        HttpResponse("é", content_type="text/plain; charset=latin-1"),
        HttpResponseNotModified(),
        JsonResponse({"a": 1}),
    ],
)
def test_a_response_is_stored_as_status_headers_cookies_and_body(response: HttpResponse) -> None:
    found = ring_values.decode(ring_values.encode(response).text).value

    assert type(found) is HttpResponse
    assert found.serialize() == response.serialize()
    assert (found.status_code, found.reason_phrase) == (
        response.status_code,
        response.reason_phrase,
    )
    assert found.cookies == response.cookies
    assert found.charset == response.charset
