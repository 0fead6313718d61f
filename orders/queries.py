"""Reads for the API and the admin: orders from the view, their history from the event store."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Max, OuterRef, QuerySet, Subquery

from . import event_store
from .domain.codec import CODECS
from .domain.errors import OrderNotFound, VersionNotFound
from .domain.order import ACTIVE, LEADS_TO, Order, Status, fold
from .models import CustomerView, OrderView, Sales, StoredEvent

SUGGESTED = 200  # customers


def orders(*, of_user: UUID | None = None) -> QuerySet[OrderView]:
    """All orders, or those of one user."""
    rows = OrderView.objects.all()
    return rows if of_user is None else rows.filter(user_id=of_user)


def order(order_id: UUID) -> OrderView | Order:
    """The order with its latest change, from the view, or from the event store if the view is
    behind. After a failover, the view can also be ahead: it shows events that the event store has
    lost. Raises OrderNotFound."""
    stream = StoredEvent.objects.filter(stream=OuterRef("pk")).values("stream")
    last = stream.annotate(last=Max("version")).values("last")
    shown = orders().filter(pk=order_id).annotate(last_version=Subquery(last)).first()
    if shown is not None and shown.version == shown.last_version:
        return shown
    found = fold(event_store.load(order_id)) or shown
    if found is None:
        raise OrderNotFound(order_id)
    return found


# The status of an order after an event of each type.
STATUSES = {type_: LEADS_TO[codec.event] for type_, codec in CODECS.items()}


def active_orders(*, after: UUID, upto: UUID | None, limit: int) -> set[UUID]:
    """The ids above `after` up to `upto` of pending and confirmed orders, from the event store, but
    not more than `limit`."""
    types = [type_ for type_, status in STATUSES.items() if status in ACTIVE]
    return event_store.ending_with(types, after=after, upto=upto, limit=limit)


def states(ids: Collection[UUID]) -> dict[UUID, tuple[int, Status | None]]:
    """The version and the status of these orders, from the event store. The status is None if this
    release doesn't know the type of the last event."""
    found = event_store.last_of(ids).items()
    return {id_: (version, STATUSES.get(type_)) for id_, (version, type_) in found}


def sales() -> QuerySet[Sales]:
    """The sales per day and SKU."""
    return Sales.objects.all()


def order_as_it_was(
    order_id: UUID, *, version: int | None = None, at: datetime | None = None
) -> Order:
    """The order at an earlier version or time. Raises VersionNotFound."""
    found = fold(event_store.load(order_id, up_to_version=version, until=at))
    if found is None or version not in (None, found.version):
        raise VersionNotFound(order_id, asked=at or version)
    return found


def events(order_id: UUID) -> list[StoredEvent]:
    """All stored events of the order, the oldest first."""
    return list(event_store.stored(order_id))


def customer(user_id: UUID) -> CustomerView | None:
    """The customer from the customer view; None if no event of the customer is applied yet."""
    return CustomerView.objects.filter(pk=user_id).first()


def newest_customers() -> list[CustomerView]:
    """The newest active customers, for forms that suggest them."""
    return list(CustomerView.objects.filter(is_active=True).order_by("-id")[:SUGGESTED])


def orders_with_customers() -> QuerySet[OrderView]:
    """Orders with `customer_name` from the customer view; None for an unknown customer."""
    name = CustomerView.objects.filter(pk=OuterRef("user_id")).values("name")
    return orders().annotate(customer_name=Subquery(name))
