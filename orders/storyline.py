"""The story of an order over both services.

The event store and the outbox have the part of orders. accounts adds its own part: in the same
process, or over HTTP. If accounts doesn't answer, the story has the part of orders, and says so.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import InterfaceError, OperationalError, router
from django.utils.module_loading import import_string

from outbox import tables, tracing
from outbox.tracing import Place, Tracer

from . import event_store
from .chapters import Chapters, newest_sequence
from .domain.events import Event
from .domain.order import Status, fold
from .models import OrderView, StoredEvent
from .peer import Peer, PeerError, PeerUnavailable
from .present import present
from .published import PUBLIC_TYPES, UPDATED
from .steps import LABEL, OWNER, Chapter, Step, StepState, Story

PEER_SECONDS: Final = 2.0  # a person waits for the page


def story(order_id: UUID, *, for_staff: bool) -> Story | None:
    """The story of an order; None if the order is unknown. Only staff see the errors of parked
    events. Raises UnreadableEvent or BrokenStream."""
    rows = list(event_store.stored(order_id))
    events = [event_store.event_of(row) for row in rows]
    order = fold(events)
    if order is None:
        return _lost(order_id)
    tracer = Tracer(LABEL)
    places = _places(rows, events, tracer)
    part, away = _part_of_accounts(order_id, places, for_staff=for_staff)
    effects = part["effects"] if part else [None] * len(places)
    make = Chapters(order, part, away, for_staff=for_staff)
    chapters: list[Chapter] = []
    for row, event, place, theirs in zip(rows, events, places, effects, strict=True):
        chapters += make.of(row, event, place, theirs, tracer)
    make.insert_others(chapters)
    return Story(
        order_id=order.id,
        user_id=order.user_id,
        status=order.status,
        version=order.version,
        away=away,
        chapters=chapters,
        now=list(present(order, part, away, sequence=newest_sequence(part))),
    )


def _lost(order_id: UUID) -> Story | None:
    """The story of an order that only the view has, because a failover lost its events."""
    shown = OrderView.objects.using(router.db_for_write(OrderView)).filter(pk=order_id).first()
    if shown is None:
        return None
    why = "a failover lost them: run manage.py reconcile"
    gone = Step(kind="event", service=LABEL, what="stored events", state=StepState.UNKNOWN, why=why)
    return Story(
        order_id=order_id,
        user_id=shown.user_id,
        status=Status(shown.status),
        version=shown.version,
        away="",
        chapters=[],
        now=[gone],
    )


def _places(rows: Sequence[StoredEvent], events: Sequence[Event], tracer: Tracer) -> list[Place]:
    """The place of each stored event's public event. An import announces several events with one
    row."""
    own, key = tables.of(LABEL), str(rows[0].stream)
    found = [place for place, _ in tracer.locate(own, xids={row.xid for row in rows}, text=key)]
    exact = {(place.type, place.sequence): place for place in found}
    imported = {place.sequence: place for place in found if place.type == UPDATED}
    places: list[Place] = []
    for row, event in zip(rows, events, strict=True):
        type_ = PUBLIC_TYPES[type(event)]
        place = exact.get((type_, row.version)) or next(
            (imported[n] for n in sorted(imported) if n >= row.version), None
        )
        places.append(
            place
            or tracing.without_row(
                own, row.xid, type=type_, key=key, text=key, sequence=row.version
            )
        )
    return places


def _part_of_accounts(
    order_id: UUID, places: Sequence[Place], *, for_staff: bool
) -> tuple[dict[str, Any] | None, str]:
    """What accounts knows, and '' or the reason why it isn't known. The text of an error, which can
    name servers and settings, is for staff."""
    asked = msgspec.to_builtins(places)
    try:
        if path := settings.STORY_PARTS.get(OWNER):
            return import_string(path)(order_id, asked), ""
        peer = Peer(OWNER, timeout_seconds=PEER_SECONDS, tries=1)
        try:
            path = "/internal/orders/story/"
            return peer.ask(path, order_id=str(order_id), places=asked), ""
        finally:
            peer.close()
    except PeerUnavailable:
        return None, f"{OWNER} doesn't answer; its part of the story is missing"
    except PeerError as exc:
        why = f": {exc}" if for_staff else ""
        return None, f"{OWNER} refuses its part of the story{why}"
    except (OperationalError, InterfaceError):
        return None, f"the database of {OWNER} doesn't answer; its part of the story is missing"
