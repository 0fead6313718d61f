"""Reads for the API and the admin. Orders come from the view, their history from the store."""

from datetime import datetime
from uuid import UUID

from django.db.models import Max, OuterRef, QuerySet, Subquery

from . import event_store
from .domain.errors import OrderNotFound, VersionNotFound
from .domain.order import Order, fold
from .models import CustomerView, OrderView, Sales, StoredEvent
from .storyline import Step, steps_of


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


def order_as_it_was(
    order_id: UUID, *, version: int | None = None, at: datetime | None = None
) -> Order:
    """The order at a version or a time of its past. Raises VersionNotFound."""
    found = fold(event_store.load(order_id, up_to_version=version, until=at))
    if found is None or version not in (None, found.version):
        raise VersionNotFound(order_id, asked=at or version)
    return found


def story(order_id: UUID) -> list[Step]:
    """What happened to the order on both sides, as far as orders knows of it."""
    return [step for row in event_store.stored(order_id) for step in steps_of(row)]


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
