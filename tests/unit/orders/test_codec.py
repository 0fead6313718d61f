"""An encoded event decodes unchanged, and events of old schema versions are upcast."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given

from orders.domain import codec
from orders.domain.codec import CODECS, Encoded, UnreadableEvent, decode, encode
from orders.domain.commands import PlaceOrder
from orders.domain.events import Event, OrderPlaced, OrderRejected
from orders.domain.lines import Line
from orders.domain.order import decide
from tests.unit.orders.examples import NOON, ORDER_ID, USER_ID, baskets, times

REJECTED = OrderRejected(order_id=ORDER_ID, reason="inactive_user", at=NOON)


def test_every_event_has_a_codec_under_its_name() -> None:
    assert {codec.event for codec in CODECS.values()} == set(get_args(Event))
    assert all(name == codec.event.__name__ for name, codec in CODECS.items())


@given(baskets, times)
def test_a_placed_order_survives_a_json_round_trip(basket: tuple[Line, ...], at: datetime) -> None:
    command = PlaceOrder(order_id=ORDER_ID, user_id=USER_ID, lines=basket)
    for event in decide(None, command, at=at):
        written = encode(event)
        read = replace(written, data=json.loads(json.dumps(written.data)))
        assert decode(read, order_id=ORDER_ID) == event
        assert isinstance(event, OrderPlaced)


def test_an_old_version_is_upcast_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def name_the_reason(data: dict[str, Any]) -> dict[str, Any]:
        return {"at": data["at"], "why": data["code"]}

    def shorten(data: dict[str, Any]) -> dict[str, Any]:
        return {"at": data["at"], "reason": data["why"]}

    newest = replace(
        CODECS["OrderRejected"], schema_version=3, upcasters={1: name_the_reason, 2: shorten}
    )
    monkeypatch.setitem(codec.CODECS, "OrderRejected", newest)
    at = "2025-01-02T12:00:00.000000Z"
    for version, data in [
        (1, {"at": at, "code": "inactive_user"}),
        (2, {"at": at, "why": "inactive_user"}),
        (3, {"at": at, "reason": "inactive_user"}),
    ]:
        old = Encoded(type="OrderRejected", schema_version=version, data=data)
        assert decode(old, order_id=ORDER_ID) == REJECTED


@pytest.mark.parametrize(("name", "version"), [("OrderEaten", 1), ("OrderPlaced", 2)])
def test_an_unknown_type_or_version_is_named(name: str, version: int) -> None:
    with pytest.raises(UnreadableEvent, match=f"version {version} of {name}"):
        decode(Encoded(type=name, schema_version=version, data={}), order_id=ORDER_ID)
