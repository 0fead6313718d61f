"""Which public events make orders do what: the saga, and the projections."""

from collections.abc import Callable, Iterable, Sequence

from outbox.consumer import Batched, Handler, Superseding, ignore
from outbox.envelope import Envelope
from outbox.projection import Projection

from .domain.commands import ConfirmOrder, RejectOrder
from .domain.metadata import Metadata
from .handlers import confirm_order, reject_order
from .inbound import (
    CreditChanged,
    CreditRefused,
    CreditReserved,
    CustomerChanged,
    CustomerErased,
    OrderChanged,
)
from .projections import count_sales, hide_customer, show_credits, show_customers, show_orders
from .replay import orders_as_of, stored_events


def confirm(envelope: Envelope) -> None:
    reserved = CreditReserved.parse(envelope)
    confirm_order(ConfirmOrder(order_id=reserved.order_id), metadata=_caused_by(envelope))


def reject(envelope: Envelope) -> None:
    refused = CreditRefused.parse(envelope)
    reject_order(
        RejectOrder(order_id=refused.order_id, reason=refused.reason),
        metadata=_caused_by(envelope),
    )


def project_customers(envelopes: Sequence[Envelope]) -> None:
    show_customers(CustomerChanged.parse(envelope) for envelope in envelopes)


def project_credits(envelopes: Sequence[Envelope]) -> None:
    show_credits(CreditChanged.parse(envelope) for envelope in envelopes)


def project_erasure(envelope: Envelope) -> None:
    hide_customer(CustomerErased.parse(envelope))


def order_view(suffix: str = "") -> dict[str, Handler]:
    """The order view's handlers, writing to its tables of that suffix."""
    return _of_orders(lambda orders: show_orders(orders, suffix=suffix))


def sales(suffix: str = "") -> dict[str, Handler]:
    """The handlers of the sales, writing to their tables of that suffix."""
    return _of_orders(lambda orders: count_sales(orders, suffix=suffix))


def _of_orders(project: Callable[[Iterable[OrderChanged]], None]) -> dict[str, Handler]:
    def handle(envelopes: Sequence[Envelope]) -> None:
        project([OrderChanged.parse(envelope) for envelope in envelopes])

    # One handler for all, so that a run of different types is still one run.
    return dict.fromkeys(ORDER_FACTS, Batched(handle))


def _caused_by(envelope: Envelope) -> Metadata:
    return Metadata(causation=str(envelope.id), traceparent=envelope.traceparent)


ORDER_FACTS = (
    "orders.order.placed.v1",
    "orders.order.confirmed.v1",
    "orders.order.rejected.v1",
    "orders.order.cancelled.v1",
    "orders.order.expired.v1",
    "orders.order.updated.v1",
)

_customers, _credits = Batched(project_customers), Batched(project_credits)

CONSUMERS: dict[str, dict[str, Handler]] = {
    "saga": {
        "accounts.credit.reserved.v1": confirm,
        "accounts.credit.refused.v1": reject,
        "accounts.credit.released.v1": ignore,
        "accounts.user.registered.v1": ignore,
        "accounts.user.updated.v1": ignore,
        "accounts.user.deactivated.v1": ignore,
        "accounts.user.erased.v1": Superseding(ignore),
    },
    "order_view": order_view(),
    "sales": sales(),
    "customer_view": {
        "accounts.user.registered.v1": _customers,
        "accounts.user.updated.v1": _customers,
        "accounts.user.deactivated.v1": _customers,
        "accounts.user.erased.v1": Superseding(project_erasure),
        "accounts.credit.reserved.v1": _credits,
        "accounts.credit.released.v1": _credits,
        "accounts.credit.refused.v1": ignore,  # moves neither the credit nor its version
    },
}

# What `manage.py rebuild` can make anew from the event store. `customer_view` isn't among them:
# its events are accounts', which tells them again (`manage.py backfill accounts`).
PROJECTIONS: dict[str, Projection] = {
    "order_view": Projection(
        models=("OrderView",), handlers=order_view, replay=orders_as_of, count=stored_events
    ),
    "sales": Projection(
        models=("Sales", "CountedOrder"), handlers=sales, replay=orders_as_of, count=stored_events
    ),
}
