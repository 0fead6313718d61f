"""The public events that orders consumes: for the saga and for the projections."""

import logging
from collections.abc import Callable, Iterable, Sequence

from outbox.consumer import Batched, Handler, Superseding, ignore
from outbox.envelope import Envelope
from outbox.projection import Copy, Projection

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
from .projections import count_sales, delete_customer, show_credits, show_customers, show_orders
from .reconcile import backfill_customers, rows_here
from .replay import orders_as_of, stored_events

log = logging.getLogger(__name__)

ORDER_EVENTS = (
    "orders.order.placed.v1",
    "orders.order.confirmed.v1",
    "orders.order.rejected.v1",
    "orders.order.cancelled.v1",
    "orders.order.expired.v1",
    "orders.order.disowned.v1",
    "orders.order.updated.v1",
)


def confirm(envelope: Envelope) -> None:
    reserved = CreditReserved.parse(envelope)
    order = confirm_order(
        ConfirmOrder(order_id=reserved.order_id, user_id=reserved.user_id),
        metadata=_caused_by(envelope),
    )
    log.info("order %s is %s", order.id, order.status)


def reject(envelope: Envelope) -> None:
    refused = CreditRefused.parse(envelope)
    order = reject_order(
        RejectOrder(order_id=refused.order_id, user_id=refused.user_id, reason=refused.reason),
        metadata=_caused_by(envelope),
    )
    log.info("order %s is %s", order.id, order.status)


def order_view(suffix: str = "") -> dict[str, Handler]:
    """Return the handlers of the order view. They write to the table with this suffix."""
    return _order_handlers(lambda orders: show_orders(orders, suffix=suffix))


def sales(suffix: str = "") -> dict[str, Handler]:
    """Return the handlers of the projection `sales`. They write to the tables with this suffix."""
    return _order_handlers(lambda orders: count_sales(orders, suffix=suffix))


def customer_view(suffix: str = "") -> dict[str, Handler]:
    """Return the handlers of the customer view. They write to the table with this suffix."""

    def show(envelopes: Sequence[Envelope]) -> None:
        show_customers(map(CustomerChanged.parse, envelopes), suffix=suffix)

    def show_credits_of(envelopes: Sequence[Envelope]) -> None:
        show_credits(map(CreditChanged.parse, envelopes), suffix=suffix)

    def delete(envelope: Envelope) -> None:
        delete_customer(CustomerErased.parse(envelope), suffix=suffix)

    customers, credits_ = Batched(show), Batched(show_credits_of)
    return {
        "accounts.user.registered.v1": customers,
        "accounts.user.updated.v1": customers,
        "accounts.user.deactivated.v1": customers,
        "accounts.user.erased.v1": Superseding(delete),
        "accounts.credit.reserved.v1": credits_,
        "accounts.credit.released.v1": credits_,
        "accounts.credit.refused.v1": ignore,  # changes neither the credit nor the version
    }


def _order_handlers(project: Callable[[Iterable[OrderChanged]], None]) -> dict[str, Handler]:
    def handle(envelopes: Sequence[Envelope]) -> None:
        project([OrderChanged.parse(envelope) for envelope in envelopes])

    # One handler for all types, so that events of different types are batched together.
    return dict.fromkeys(ORDER_EVENTS, Batched(handle))


def _caused_by(envelope: Envelope) -> Metadata:
    return Metadata(causation=str(envelope.id), traceparent=envelope.traceparent)


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
    "customer_view": customer_view(),
}

# `manage.py outbox rebuild` builds these from the event store, or from a backfill by accounts.
PROJECTIONS: dict[str, Projection | Copy] = {
    "order_view": Projection(
        models=("OrderView",),
        handlers=order_view,
        project=show_orders,
        replay=orders_as_of,
        count=stored_events,
    ),
    "sales": Projection(
        models=("Sales", "CountedOrder"),
        handlers=sales,
        project=count_sales,
        replay=orders_as_of,
        count=stored_events,
    ),
    "customer_view": Copy(
        models=("CustomerView",),
        handlers=customer_view,
        backfill=backfill_customers,
        count=rows_here,
    ),
}
