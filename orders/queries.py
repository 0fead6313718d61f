"""Reads for the API and the admin. Orders come from the view, their history from the store."""

from uuid import UUID

from django.db.models import Max, OuterRef, QuerySet, Subquery

from . import event_store
from .domain.errors import OrderNotFound
from .domain.order import Order, fold
from .models import CustomerView, OrderView, Sales, StoredEvent


def orders(*, of_user: UUID | None = None) -> QuerySet[OrderView]:
    """Everybody's orders, or one user's."""
    rows = OrderView.objects.all()
    return rows if of_user is None else rows.filter(user_id=of_user)


def order(order_id: UUID) -> OrderView | Order:
    """The order as the view shows it, or from its events while the view lacks the last of them:
    what was placed or changed a moment ago is shown. Raises OrderNotFound."""
    stream = StoredEvent.objects.filter(stream=OuterRef("pk")).values("stream")
    last = stream.annotate(last=Max("version")).values("last")
    shown = orders().filter(pk=order_id).annotate(last_version=Subquery(last)).first()
    if shown is not None and shown.version >= (shown.last_version or 0):
        return shown
    found = fold(event_store.load(order_id)) or shown
    if found is None:
        raise OrderNotFound(order_id)
    return found


def sales() -> QuerySet[Sales]:
    """What was sold per day and SKU."""
    return Sales.objects.all()


def events(order_id: UUID) -> list[StoredEvent]:
    """All that happened to the order, from the first."""
    return list(event_store.stored(order_id))


def customer(user_id: UUID) -> CustomerView | None:
    """The customer as accounts' events told so far."""
    return CustomerView.objects.filter(pk=user_id).first()


def orders_with_customers() -> QuerySet[OrderView]:
    """Orders, each with the `customer_name` known here, or None."""
    name = CustomerView.objects.filter(pk=OuterRef("user_id")).values("name")
    return orders().annotate(customer_name=Subquery(name))
