"""Which public events make orders do what: the saga, and the two projections."""

from outbox.consumer import Handler, Superseding, ignore
from outbox.envelope import Envelope

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
from .projections import hide_customer, show_credit, show_customer, show_order


def confirm(envelope: Envelope) -> None:
    reserved = CreditReserved.parse(envelope)
    confirm_order(ConfirmOrder(order_id=reserved.order_id), metadata=_caused_by(envelope))


def reject(envelope: Envelope) -> None:
    refused = CreditRefused.parse(envelope)
    reject_order(
        RejectOrder(order_id=refused.order_id, reason=refused.reason),
        metadata=_caused_by(envelope),
    )


def project_order(envelope: Envelope) -> None:
    show_order(OrderChanged.parse(envelope))


def project_customer(envelope: Envelope) -> None:
    show_customer(CustomerChanged.parse(envelope))


def project_credit(envelope: Envelope) -> None:
    show_credit(CreditChanged.parse(envelope))


def project_erasure(envelope: Envelope) -> None:
    hide_customer(CustomerErased.parse(envelope))


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
    "order_view": {
        "orders.order.placed.v1": project_order,
        "orders.order.confirmed.v1": project_order,
        "orders.order.rejected.v1": project_order,
        "orders.order.cancelled.v1": project_order,
        "orders.order.expired.v1": project_order,
        "orders.order.updated.v1": project_order,
    },
    "customer_view": {
        "accounts.user.registered.v1": project_customer,
        "accounts.user.updated.v1": project_customer,
        "accounts.user.deactivated.v1": project_customer,
        "accounts.user.erased.v1": Superseding(project_erasure),
        "accounts.credit.reserved.v1": project_credit,
        "accounts.credit.released.v1": project_credit,
        "accounts.credit.refused.v1": ignore,  # moves neither the credit nor its version
    },
}
