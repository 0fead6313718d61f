"""Which of orders' public events make accounts do what."""

from outbox.consumer import Handler, ignore
from outbox.envelope import Envelope

from .domain.commands import ReleaseCredit, ReserveCredit
from .handlers import release_credit, reserve_credit
from .inbound import OrderEnded, OrderPlaced, OrderState


def reserve(envelope: Envelope) -> None:
    order = OrderPlaced.parse(envelope.data)
    reserve_credit(
        ReserveCredit(order_id=order.order_id, user_id=order.user_id, amount=order.total)
    )


def release(envelope: Envelope) -> None:
    release_credit(ReleaseCredit(order_id=OrderEnded.parse(envelope.data).order_id))


def catch_up(envelope: Envelope) -> None:
    """An order's state told once more: do now what its lost events would have done."""
    if OrderState.parse(envelope.data).holds_credit:
        reserve(envelope)
    else:
        release(envelope)


CONSUMERS: dict[str, dict[str, Handler]] = {
    "credit": {
        "orders.order.placed.v1": reserve,
        "orders.order.confirmed.v1": ignore,
        "orders.order.rejected.v1": ignore,
        "orders.order.cancelled.v1": release,
        "orders.order.expired.v1": release,
        "orders.order.updated.v1": catch_up,
    },
}
