"""The part of accounts in an order's story: the reservation, its public events and their effects.

orders asks for it, in the same process or over HTTP, so the answer is JSON.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import router

from outbox import tables, tracing
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

SENTENCES: Final = {
    TYPES[CreditReserved]: "accounts reserved the credit",
    TYPES[CreditRefused]: "accounts refused the credit",
    TYPES[CreditReleased]: "accounts released the credit",
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
        "events": list(_events(reservation)),
        "effects": effects,
        "customer": _customer(reservation.user_id),
    }


def _events(reservation: Reservation) -> Iterator[dict[str, Any]]:
    """Yield the event that decided about the credit, and the one that released it."""
    user_id = reservation.user_id
    if reservation.amount is None or user_id is None:
        return  # a tombstone
    tracer, own = Tracer(LABEL), tables.of(LABEL)
    facts, text = dict(_facts(reservation)), str(reservation.order_id)
    found = tracer.locate(own, xids=set(facts.values()), text=text)
    located = {place.type: (place, envelope.data["reason"]) for place, envelope in found}
    for type_, xid in facts.items():
        place, reason = located.get(type_, (None, ""))
        if place is None:
            is_reserved = type_ == TYPES[CreditReserved]
            time = reservation.created_at if is_reserved else reservation.updated_at
            place = tracing.without_row(
                own, xid, type=type_, key=str(user_id), text=text, time=time
            )
            if place.is_lost and _is_erased(user_id):
                continue  # the erasure has deleted the row, and every consumer has applied it
        what = f"{SENTENCES[type_]}: {amount(reservation.amount)}"
        yield {
            "what": f"{what}, {reason}" if reason else what,
            "place": msgspec.to_builtins(place),
            "effects": _effects(tracer, place),
        }


def _facts(reservation: Reservation) -> Iterator[tuple[str, int]]:
    """Yield the type of each event about the reservation, and the transaction that recorded it, if
    the row holds it."""
    if reservation.decided_xid:
        is_refused = reservation.status == Reservation.Status.REFUSED
        yield TYPES[CreditRefused if is_refused else CreditReserved], reservation.decided_xid
    if reservation.released_xid:
        yield TYPES[CreditReleased], reservation.released_xid


def _effects(tracer: Tracer, place: Place) -> list[dict[str, Any]]:
    return [
        {
            "meaning": MEANINGS.get((effect.consumer, place.type), "applies the event"),
            **msgspec.to_builtins(effect),
        }
        for effect in tracer.effects(place, label=LABEL)
    ]


def _is_erased(user_id: UUID) -> bool:
    users = User.objects.using(router.db_for_write(User))
    return users.filter(pk=user_id, erased_at__isnull=False).exists()


def _customer(user_id: UUID | None) -> dict[str, Any] | None:
    """The version of the customer's copy in the cache; None for an unknown or erased customer."""
    users = User.objects.using(router.db_for_write(User)).filter(erased_at=None)
    if user_id is None or not users.filter(pk=user_id).exists():
        return None
    return {"cached_version": cached.cached_version(user_id)}
