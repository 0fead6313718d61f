"""The part of accounts in an order's story: the reservation, its public events and their effects.

orders asks for it, in the same process or over HTTP, so the answer is JSON.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import router

from outbox import tables
from outbox.envelope import Envelope
from outbox.tracing import Place, Tracer

from . import cached
from .domain.events import CreditRefused, CreditReleased, CreditReserved
from .models import Reservation, User
from .published import TYPES, amount, instant

LABEL: Final = "accounts"

# What a consumer does, for the page. A consumer that isn't listed is shown by its name.
MEANINGS: Final = {
    ("credit", "orders.order.placed.v1"): "reserves the customer's credit, or refuses it",
    ("credit", "orders.order.cancelled.v1"): "releases the credit that the order holds",
    ("credit", "orders.order.expired.v1"): "releases the credit that the order holds",
    ("credit", "orders.order.disowned.v1"): "releases the credit that the order holds",
    ("user_cache", TYPES[CreditReserved]): "invalidates older copies of the customer in the cache",
    ("user_cache", TYPES[CreditReleased]): "invalidates older copies of the customer in the cache",
}


def of_order(order_id: UUID, places: Sequence[Any]) -> dict[str, Any]:
    """What accounts knows of an order. `places` are the places of the order's public events.

    `effects` has one list for each place. Raises msgspec.ValidationError for malformed places.
    """
    asked = msgspec.convert(places, list[Place])
    tracer = Tracer("orders")
    rows = Reservation.objects.using(router.db_for_write(Reservation))
    # First the effects, then the rows that they wrote: an applied event has its row.
    effects = [_effects(tracer, place) for place in asked]
    reservation = rows.filter(pk=order_id).first()
    if reservation is None:
        return {"reservation": None, "events": [], "effects": effects, "customer": None}
    return {
        "reservation": {
            "status": reservation.status,
            "amount": None if reservation.amount is None else amount(reservation.amount),
            "created_at": instant(reservation.created_at),
            "updated_at": instant(reservation.updated_at),
        },
        "events": _events(reservation),
        "effects": effects,
        "customer": _customer(reservation.user_id),
    }


def _events(reservation: Reservation) -> list[dict[str, Any]]:
    """The events that decided about the credit and that released it."""
    tracer = Tracer(LABEL)
    xids = {xid for xid in (reservation.decided_xid, reservation.released_xid) if xid}
    found = tracer.locate(tables.of(LABEL), xids=xids, subject=str(reservation.order_id))
    return [
        {
            "what": _sentence(envelope),
            "place": msgspec.to_builtins(place),
            "effects": _effects(tracer, place),
        }
        for place, envelope in found
    ]


def _effects(tracer: Tracer, place: Place) -> list[dict[str, Any]]:
    return [
        {
            "meaning": MEANINGS.get((effect.consumer, place.type), "applies the event"),
            **msgspec.to_builtins(effect),
        }
        for effect in tracer.effects(place, label=LABEL)
    ]


def _sentence(envelope: Envelope) -> str:
    held = envelope.data["amount"]
    if envelope.type == TYPES[CreditReserved]:
        return f"accounts reserved the credit: {held}"
    if envelope.type == TYPES[CreditRefused]:
        return f"accounts refused the credit: {held}, {envelope.data['reason']}"
    return f"accounts released the credit: {held}"


def _customer(user_id: UUID | None) -> dict[str, Any] | None:
    """The version of the customer's copy in the cache; None for an unknown or erased customer."""
    users = User.objects.using(router.db_for_write(User)).filter(erased_at=None)
    if user_id is None or not users.filter(pk=user_id).exists():
        return None
    return {"cached_version": cached.cached_version(user_id)}
