import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbox.envelope import Envelope
from outbox.errors import MalformedEnvelope

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def an_envelope(**changed: object) -> Envelope:
    facts = {
        "type": "shop.item.changed.v1",
        "subject": "item-1",
        "partitionkey": "item-1",
        "sequence": 3,
        "data": {"name": "Grüße\u0000", "price": "12.30"},
        "time": datetime(2026, 11, 23, 6, 30, tzinfo=UTC),
    }
    return Envelope(**facts | changed)  # type: ignore[arg-type]


# Without time limits: a busy machine may generate the examples slowly.
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(subject=TEXT, key=TEXT, sequence=st.integers(), data=st.dictionaries(st.text(), JSON))
def test_an_encoded_event_is_decoded_unchanged(subject, key, sequence, data):
    envelope = an_envelope(subject=subject, partitionkey=key, sequence=sequence, data=data)
    assert Envelope.decode(envelope.encode()) == envelope


def test_an_encoded_event_is_a_cloud_event():
    envelope = an_envelope(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert json.loads(envelope.encode()) == {
        "specversion": "1.0",
        "id": str(envelope.id),
        "source": "/shop",
        "type": "shop.item.changed.v1",
        "subject": "item-1",
        "time": "2026-11-23T06:30:00Z",
        "datacontenttype": "application/json",
        "partitionkey": "item-1",
        "sequence": 3,
        "data": {"name": "Grüße\u0000", "price": "12.30"},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


def test_ids_are_in_order_of_time():
    assert an_envelope().id < an_envelope().id


@pytest.mark.parametrize(
    "value",
    [float("nan"), object(), "half a pair \ud800", [None, {"deep": (1, float("-inf"))}]],
)
def test_a_value_that_json_cannot_hold_is_refused_at_the_write(value):
    with pytest.raises(MalformedEnvelope, match="data has a value that JSON can't represent"):
        an_envelope(data={"value": value}).encode()


def test_amounts_times_and_ids_become_strings():
    envelope = an_envelope(
        data={
            "price": Decimal("1.50"),
            "at": datetime(2026, 11, 23, 6, 30, tzinfo=UTC),
            "id": UUID(int=7),
            "nothing": None,
        }
    )
    assert json.loads(envelope.encode())["data"] == {
        "price": "1.50",
        "at": "2026-11-23T06:30:00Z",
        "id": "00000000-0000-0000-0000-000000000007",
        "nothing": None,
    }


def test_the_time_is_encoded_in_utc():
    there = timezone(timedelta(hours=2))
    envelope = an_envelope(time=datetime(2026, 11, 23, 6, 30, tzinfo=there))
    assert json.loads(envelope.encode())["time"] == "2026-11-23T04:30:00Z"


@pytest.mark.parametrize("key", ["", "nul\0", "half a pair \ud800", "long" * 1000])
def test_a_key_that_no_index_can_hold_is_refused_at_the_write(key):
    with pytest.raises(MalformedEnvelope, match="partitionkey"):
        an_envelope(partitionkey=key).encode()


@pytest.mark.parametrize(
    "type_",
    [
        *(
            "shop.item.changed",
            "shop.item.changed.1",
            "shop.item.changed.v",
            "shop.item.changed.v0",
        ),
        *("shop.item.changed.v01", "shop.item.changed.V1", "shop.item.changed.v1.v2"),
        *("shop.item.changed.v1 ", " shop.item.changed.v1", "shop.item.changed.v1\n"),
        *("shop..changed.v1", ".item.changed.v1", "shop.item..v1", "1shop.item.changed.v1"),
        *("shop.item changed.v1", "shop/item.changed.v1", "shop.v1", "", 7, None),
    ],
)
def test_a_type_of_another_form_is_refused_at_the_write(type_):
    with pytest.raises(MalformedEnvelope, match=r"^type is .*: expected ") as refused:
        an_envelope(type=type_).encode()
    assert repr(type_) in str(refused.value)


@pytest.mark.parametrize(
    "type_", ["shop.item.changed.v1", "shop_2.owned_item.re-counted.v10", "Läden.Ware.geändert.v2"]
)
def test_a_type_of_any_label_and_words_is_encoded(type_):
    assert Envelope.decode(an_envelope(type=type_).encode(), producer=type_.split(".")[0])


def test_a_type_of_an_older_form_is_still_decoded():
    text = an_envelope().encode().replace("shop.item.changed.v1", "shop.item-changed")
    assert Envelope.decode(text, producer="shop").type == "shop.item-changed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "3"}, "sequence is '3': expected an integer"),
        ({"sequence": True}, "sequence is True: expected an integer"),
        ({"time": "yesterday"}, "time is 'yesterday': expected a datetime with a time zone"),
        ({"time": datetime(2026, 1, 1)}, "time is datetime.* expected a datetime with a time zone"),  # noqa: DTZ001
        ({"partitionkey": 1}, "partitionkey is 1: expected a string"),
        ({"subject": UUID(int=7)}, "subject is UUID.*: expected a string"),
        ({"subject": ""}, "subject is '': expected a string"),
        ({"source": 7}, "source is 7: expected a string"),
        ({"data": [1]}, r"data is \[1\]: expected a mapping"),
        ({"data": None}, "data is None: expected a mapping"),
        ({"data": {"at": object()}}, "data has a value that JSON can't represent: .*object"),
        ({"id": "7"}, "id is '7': expected a UUID"),
        ({"traceparent": 7}, "traceparent is 7: expected a string or None"),
    ],
)
def test_a_malformed_attribute_is_named_at_the_write(change, message):
    with pytest.raises(MalformedEnvelope, match=message):
        an_envelope(**change).encode()


def test_unknown_attributes_are_ignored():
    event = json.loads(an_envelope().encode()) | {"dataschema": "https://example.com/1"}
    assert Envelope.decode(json.dumps(event)).subject == "item-1"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specversion": "2.0"}, "specversion"),
        ({"id": "not-a-uuid"}, r"\$\.id"),
        ({"id": 7}, r"\$\.id"),
        ({"time": "yesterday"}, r"\$\.time"),
        ({"time": "2026-11-23T06:30:00"}, r"\$\.time"),  # the time has no offset
        ({"type": ""}, "type"),
        ({"subject": None}, "subject"),
        ({"partitionkey": 5}, "partitionkey"),
        ({"sequence": "3"}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"data": []}, "data"),
    ],
)
def test_a_malformed_attribute_is_named(change, named):
    event = json.loads(an_envelope().encode()) | change
    with pytest.raises(MalformedEnvelope, match=named):
        Envelope.decode(json.dumps(event))


def test_a_missing_attribute_is_named():
    event = json.loads(an_envelope().encode())
    names = ("specversion", "id", "source", "type", "subject", "partitionkey", "sequence", "time")
    for name in names:
        rest = {key: value for key, value in event.items() if key != name}
        with pytest.raises(MalformedEnvelope, match=name):
            Envelope.decode(json.dumps(rest))


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"not json", b"[]", b"7", b"[" * 100_000])
def test_text_that_is_not_an_event_is_refused(text):
    with pytest.raises(MalformedEnvelope):
        Envelope.decode(text)
