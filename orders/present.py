"""The last steps of an order's story: the credit, the views and the cache as they are now."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from django.db import router

from .domain.notation import read_time
from .domain.order import ACTIVE, Order, Status
from .models import CustomerView, OrderView
from .steps import LABEL, OWNER, Step, StepState


def present(
    order: Order, part: Mapping[str, Any] | None, away: str, *, sequence: int
) -> Iterator[Step]:
    """The steps from the part of accounts; without it, `away` says why. `sequence` is the newest
    version of the customer that the story's events have, 0 for none."""
    yield _credit(order, part["reservation"] if part else None, away)
    yield _order_view(order)
    if sequence:
        customer = part["customer"] if part else None
        yield _customer_view(order, sequence, is_known=customer is not None)
        if customer is not None:
            yield _cache(customer["cached_version"], sequence)


def _credit(order: Order, reservation: Mapping[str, Any] | None, away: str) -> Step:
    """Whether accounts holds credit exactly if the order is active."""
    make = partial(Step, kind="credit", service=OWNER)
    if away:
        what = f"{OWNER} holds or releases the credit"
        return make(what=what, state=StepState.UNKNOWN, why=away)
    held = reservation or {"status": "", "amount": None, "updated_at": None}
    status, amount = held["status"], held["amount"]
    at = read_time(held["updated_at"]) if held["updated_at"] else None
    if order.status is Status.PENDING:
        why = f"the saga hasn't applied the decision of {OWNER}" if status else ""
        why = why or f"{OWNER} hasn't decided about the credit"
        return make(what="the order is confirmed or rejected", state=StepState.WAITS, why=why)
    if order.status in ACTIVE:
        if status == "RESERVED":
            return make(what=f"{OWNER} holds {amount} for the order", at=at)
        what = f"{OWNER} holds the credit of the order"
        why = "it has no such reservation: run manage.py reconcile"
        return make(what=what, state=StepState.UNKNOWN, at=at, why=why)
    if status == "RESERVED" or not status:
        what = f"{OWNER} releases the credit of the order"
        why = f"it still holds {amount}" if status else "it hasn't seen the order"
        return make(what=what, state=StepState.WAITS, why=why)
    gave_back = f"{OWNER} released {amount}" if status == "RELEASED" and amount else ""
    return make(what=gave_back or f"{OWNER} holds no credit for the order", at=at)


def _order_view(order: Order) -> Step:
    rows = OrderView.objects.using(router.db_for_write(OrderView)).filter(pk=order.id)
    shown = rows.values_list("version", flat=True).first()
    return _up_to_date("order_view", LABEL, "view", shown, order.version)


def _customer_view(order: Order, wanted: int, *, is_known: bool) -> Step:
    rows = CustomerView.objects.using(router.db_for_write(CustomerView)).filter(pk=order.user_id)
    shown = rows.values_list("version", flat=True).first()
    if shown is None and not is_known:
        return Step(kind="view", service=LABEL, what="customer_view has no such customer")
    return _up_to_date("customer_view", LABEL, "view", shown, wanted)


def _cache(cached: int | None, wanted: int) -> Step:
    if cached is None:
        return Step(kind="cache", service=OWNER, what="the cache has no copy of the customer")
    return _up_to_date("the cache", OWNER, "cache", cached, wanted)


def _up_to_date(name: str, service: str, kind: str, shown: int | None, wanted: int) -> Step:
    if shown is not None and shown >= wanted:
        return Step(kind=kind, service=service, what=f"{name} has version {shown}", id=str(shown))
    return Step(
        kind=kind,
        service=service,
        what=f"{name} has version {wanted}",
        state=StepState.WAITS,
        why=f"it has version {shown}" if shown is not None else "it has no row",
    )
