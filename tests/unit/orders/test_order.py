"""Checks `decide` and `evolve`: the whole transition table, and properties of every history."""

from datetime import timedelta
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain.codec import decode, encode
from orders.domain.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    ExpireOrder,
    PlaceOrder,
    RejectOrder,
)
from orders.domain.errors import (
    InvalidLines,
    OrderEnded,
    OrderError,
    OrderExists,
    OrderNotFound,
)
from orders.domain.events import Event, OrderDisowned, OrderRejected
from orders.domain.lines import Line
from orders.domain.order import (
    IGNORED,
    LEADS_TO,
    REFUSED,
    TRANSITIONS,
    Status,
    decide,
    evolve,
    fold,
)
from tests.unit.orders.examples import (
    COMMANDS,
    NOON,
    ORDER_ID,
    POT,
    TEA,
    USER_ID,
    baskets,
    commands,
    order_in,
)

LATER = NOON + timedelta(hours=1)
CELLS = [(status, command) for status in TRANSITIONS for command in TRANSITIONS[status]]
ENDED = (Status.REJECTED, Status.CANCELLED, Status.EXPIRED, Status.DISOWNED)


def test_the_transition_table_covers_every_command_in_every_status() -> None:
    assert set(TRANSITIONS) == {None, *Status}
    assert all(set(row) == set(get_args(Command)) for row in TRANSITIONS.values())
    assert set(LEADS_TO) == set(get_args(Event))


@pytest.mark.parametrize(("status", "kind"), CELLS)
def test_a_command_follows_the_transition_table(status: Status | None, kind: type[Command]) -> None:
    order, expected = order_in(status), TRANSITIONS[status][kind]
    if expected is REFUSED:
        with pytest.raises(OrderError):
            decide(order, COMMANDS[kind], at=LATER)
        return
    events = decide(order, COMMANDS[kind], at=LATER)
    assert [type(event) for event in events] == ([] if expected is IGNORED else [expected])
    for event in events:
        after = evolve(order, event)
        assert after.status is LEADS_TO[type(event)]
        assert after.version == (order.version if order else 0) + 1
        assert after.updated_at == LATER


@pytest.mark.parametrize("status", ENDED)
def test_an_ended_order_never_changes_again(status: Status) -> None:
    for kind, outcome in TRANSITIONS[status].items():
        assert outcome in (IGNORED, REFUSED), kind


@pytest.mark.parametrize("status", ENDED)
def test_cancelling_an_ended_order_names_its_status_and_version(status: Status) -> None:
    order = order_in(status)
    assert order is not None
    with pytest.raises(OrderEnded) as refused:
        decide(order, CancelOrder(order_id=ORDER_ID), at=LATER)
    assert refused.value.extras == {
        "current_status": status.value,
        "current_version": order.version,
    }


def test_an_order_is_placed_once() -> None:
    with pytest.raises(OrderExists) as refused:
        decide(order_in(Status.PENDING), COMMANDS[PlaceOrder], at=LATER)
    assert refused.value.version == 1


@pytest.mark.parametrize("kind", [CancelOrder, ExpireOrder])
def test_an_order_that_was_never_placed_is_not_found(kind: type[Command]) -> None:
    with pytest.raises(OrderNotFound):
        decide(None, COMMANDS[kind], at=LATER)


@pytest.mark.parametrize("kind", [ConfirmOrder, RejectOrder])
def test_a_decision_about_an_unknown_order_disowns_it(kind: type[Command]) -> None:
    (event,) = decide(None, COMMANDS[kind], at=LATER)
    assert event == OrderDisowned(order_id=ORDER_ID, user_id=USER_ID, at=LATER)
    order = fold([event])
    assert order is not None
    assert (order.lines, order.total) == ((), Decimal("0.00"))


def test_a_placed_order_has_the_fields_of_its_command() -> None:
    order = order_in(Status.PENDING)
    assert order is not None
    assert (order.id, order.user_id, order.lines) == (ORDER_ID, USER_ID, (TEA, POT))
    assert (order.total, order.version, order.reason) == (Decimal("40.00"), 1, "")
    assert order.placed_at == order.updated_at == NOON


def test_a_rejected_order_keeps_its_reason_and_placing_time() -> None:
    order = order_in(Status.REJECTED)
    assert order is not None
    assert order.reason == "insufficient_credit"
    assert order.placed_at == NOON < order.updated_at


def test_lines_beyond_the_limits_are_not_placed() -> None:
    with pytest.raises(InvalidLines):
        decide(None, PlaceOrder(order_id=ORDER_ID, user_id=USER_ID, lines=()), at=NOON)


def test_no_history_is_longer_than_three_events() -> None:
    """Short histories need no snapshots: see docs/adr/0015-no-snapshots-of-orders.md."""

    def longest(status: Status | None) -> int:
        events = [made for made in TRANSITIONS[status].values() if isinstance(made, type)]
        return max((1 + longest(LEADS_TO[event]) for event in events), default=0)

    assert longest(None) == 3


def test_history_starts_with_the_placing() -> None:
    with pytest.raises(OrderNotFound):
        evolve(None, OrderRejected(order_id=ORDER_ID, reason="", at=NOON))
    assert fold([]) is None


@given(st.lists(commands, max_size=12))
def test_every_history_folds_to_the_decided_order(history_of_commands: list[Command]) -> None:
    order, history = None, []
    for second, command in enumerate(history_of_commands):
        at = NOON + timedelta(seconds=second)
        try:
            events = decide(order, command, at=at)
        except OrderError:
            continue
        for event in events:
            order = evolve(order, event)
            history.append(event)
    assert fold(history) == order
    assert fold(decode(encode(event), order_id=ORDER_ID) for event in history) == order
    assert len(history) <= 3  # three commands are always enough to end an order
    if order:
        assert order.version == len(history)
        assert order.placed_at == history[0].at
        assert order.updated_at == history[-1].at


@given(baskets)
def test_the_total_is_exact(basket: tuple[Line, ...]) -> None:
    order = fold(
        decide(None, PlaceOrder(order_id=ORDER_ID, user_id=USER_ID, lines=basket), at=NOON)
    )
    assert order is not None
    cents = sum(line.quantity * int(line.unit_price * 100) for line in order.lines)
    assert int(order.total * 100) == cents == order.total * 100
