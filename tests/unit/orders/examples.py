"""Example orders, lines and commands, and hypothesis strategies that generate these."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

from orders.domain.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    ExpireOrder,
    PlaceOrder,
    RejectOrder,
)
from orders.domain.lines import Line
from orders.domain.order import Order, Status, decide, evolve

ORDER_ID = UUID("01890000-0000-7000-8000-000000000001")
USER_ID = UUID("01890000-0000-7000-8000-000000000002")
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
TEA = Line(sku="tea", quantity=2, unit_price=Decimal("4.50"))
POT = Line(sku="pot", quantity=1, unit_price=Decimal("31.00"))

COMMANDS: dict[type[Command], Command] = {
    PlaceOrder: PlaceOrder(order_id=ORDER_ID, user_id=USER_ID, lines=(TEA, POT)),
    ConfirmOrder: ConfirmOrder(order_id=ORDER_ID, user_id=USER_ID),
    RejectOrder: RejectOrder(order_id=ORDER_ID, user_id=USER_ID, reason="insufficient_credit"),
    CancelOrder: CancelOrder(order_id=ORDER_ID),
    ExpireOrder: ExpireOrder(order_id=ORDER_ID),
}

COMMANDS_TO: dict[Status | None, list[type[Command]]] = {
    None: [],
    Status.PENDING: [PlaceOrder],
    Status.CONFIRMED: [PlaceOrder, ConfirmOrder],
    Status.REJECTED: [PlaceOrder, RejectOrder],
    Status.CANCELLED: [PlaceOrder, CancelOrder],
    Status.EXPIRED: [PlaceOrder, ExpireOrder],
    Status.DISOWNED: [ConfirmOrder],
}


def order_in(status: Status | None) -> Order | None:
    """Returns an order that reached `status` through real commands, one minute apart."""
    order = None
    for minute, kind in enumerate(COMMANDS_TO[status]):
        for event in decide(order, COMMANDS[kind], at=NOON + timedelta(minutes=minute)):
            order = evolve(order, event)
    return order


skus = st.text("abcXYZ019-_.äß茶", min_size=1, max_size=12)
prices = st.decimals(min_value="0.01", max_value="9999.99", places=2)
lines = st.builds(Line, sku=skus, quantity=st.integers(1, 1000), unit_price=prices)
baskets = st.lists(lines, min_size=1, max_size=10).map(tuple)
commands = st.one_of(
    st.builds(PlaceOrder, order_id=st.just(ORDER_ID), user_id=st.uuids(), lines=baskets),
    st.builds(
        RejectOrder,
        order_id=st.just(ORDER_ID),
        user_id=st.just(USER_ID),
        reason=st.text(max_size=30),
    ),
    *(st.just(COMMANDS[kind]) for kind in (ConfirmOrder, CancelOrder, ExpireOrder)),
)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
