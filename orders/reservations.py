"""Compares the reservations of accounts with the orders, in both directions, and repairs them.

Accounts must hold credit for each active order (pending or confirmed), and for no other order. They
differ if a service has lost its latest changes: in a failover to a standby that was behind, or in
the restore of a backup.

First, `compare` compares the ids of both sides, page by page under concurrent writes. An id that
only one side has is a suspect. Then each suspect is checked at a common position, in this order:
read the order; wait until accounts has applied all events of orders; read the reservation; wait
until the saga has applied all events of accounts; read the order again. If the order hasn't changed
meanwhile, no event is in transit, so a difference is an error.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

from outbox import streams, tables
from outbox.agreeing import coverage
from outbox.agreeing.checksums import FIRST
from outbox.pacing import paced
from outbox.streams import Cursor

from . import queries
from .domain.codec import BrokenStream, UnreadableEvent
from .domain.commands import CancelOrder, ConfirmOrder
from .domain.errors import OrderError
from .domain.metadata import Metadata
from .domain.order import ACTIVE, Status
from .handlers import backfill_orders, cancel_order, confirm_order
from .peer import Peer
from .reconcile import (
    CATCH_UP_SECONDS,
    MAX_DIFFERENCES,
    OWNER,
    POLL_SECONDS,
    Page,
    ReconcileError,
    check_in_rounds,
    chunks,
    wait_until_applied,
)

PAGE_ROWS: Final = 50_000
HOLDS: Final = "RESERVED"  # the status of a reservation that holds credit
METADATA: Final = Metadata(actor="reconcile")

Reservation = tuple[str, str | None]  # its status, and the id of its user


class Kind(StrEnum):
    """How a reservation and its order differ."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    MISSING = "missing"
    RELEASED = "released"
    UNREADABLE = "unreadable"


MEANINGS: Final = {
    Kind.UNKNOWN: f"{OWNER} holds credit for an order that doesn't exist",
    Kind.ENDED: f"{OWNER} holds credit for an order that has ended",
    Kind.MISSING: f"the order is active, but {OWNER} has no reservation",
    Kind.RELEASED: f"the order is active, but {OWNER} has released or refused its credit",
    Kind.UNREADABLE: "this release can't read all events of the order",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An order that differs from its reservation. `user_id` is the reservation's user, if any."""

    id: UUID
    kind: Kind
    user_id: UUID | None

    def __str__(self) -> str:
        return f"{self.kind}: {MEANINGS[self.kind]}"


def compare(peer: Peer) -> Iterator[Page[Difference]]:
    """Compare all reservations and orders, page by page. Changes nothing. A page has differences
    of at most IDS_AT_ONCE orders, so the caller can repair them in one step.

    Raises ReconcileError, PeerError or OutboxError.
    """
    found = 0
    after: UUID | None = FIRST
    while after is not None:
        answer = peer.ask("/internal/reservations/page/", after=str(after), rows=PAGE_ROWS)
        held = {UUID(id_) for id_ in answer["orders"]}
        upto = UUID(answer["last"]) if answer["last"] else None
        limit = len(held) + MAX_DIFFERENCES
        active = queries.active_orders(after=after, upto=upto, limit=limit + 1)
        if len(active) > limit:
            raise ReconcileError(_too_many())
        yield Page(rows=len(held), differences=())
        for suspects in chunks(sorted(held ^ active)):
            differences = tuple(find_differences(peer, suspects))
            yield Page(rows=0, differences=differences)
            found += len(differences)
            if found > MAX_DIFFERENCES:
                raise ReconcileError(_too_many())
        after = upto


def _too_many() -> str:
    return (
        f"more than {MAX_DIFFERENCES} orders differ: check that all relays and consumers run, run "
        "manage.py outbox backfill orders, then reconcile again"
    )


def find_differences(peer: Peer, suspects: Collection[UUID]) -> Iterator[Difference]:
    """Yield the suspects that differ at a common position."""
    return check_in_rounds(suspects, partial(_check, peer))


def classify(order: Status | None, reservation: str | None) -> Kind | None:
    """Compare an order's status with its reservation's status. None if they agree."""
    active, holds = order in ACTIVE, reservation == HOLDS
    if active == holds:
        return None
    if holds:
        return Kind.UNKNOWN if order is None else Kind.ENDED
    return Kind.MISSING if reservation is None else Kind.RELEASED


def repair(peer: Peer, differences: Sequence[Difference]) -> list[Difference]:
    """Repair these orders; returns those that still differ afterwards."""
    left: list[Difference] = []
    for chunk in chunks(differences):
        repaired: list[UUID] = []
        for difference in chunk:
            try:
                with suppress(OrderError):  # the order has changed meanwhile; it is checked below
                    _repair(difference)
                repaired.append(difference.id)
            except (UnreadableEvent, BrokenStream):
                left.append(replace(difference, kind=Kind.UNREADABLE))
        left += find_differences(peer, repaired)
    return left


def _repair(difference: Difference) -> None:
    """Announce the order's state, or apply the decision of accounts to the order. Accounts can't
    reserve credit again that it has released or refused, so such an order is cancelled."""
    if difference.kind is Kind.UNKNOWN and difference.user_id:
        command = ConfirmOrder(order_id=difference.id, user_id=difference.user_id)
        confirm_order(command, metadata=METADATA)  # disowns an unknown order
    elif difference.kind is Kind.RELEASED:
        cancel_order(CancelOrder(order_id=difference.id), metadata=METADATA)
    else:
        backfill_orders([difference.id])


def _check(peer: Peer, ids: Collection[UUID]) -> dict[UUID, Difference | None]:
    before = queries.states(ids)
    reservations, snapshot = _reservations(peer, ids, applied=_published())
    wait_until_applied(peer, snapshot, by="saga")
    after = queries.states(ids)
    checked: dict[UUID, Difference | None] = {}
    for id_ in sorted(ids):
        if before.get(id_) != after.get(id_):
            continue
        version, order = after.get(id_, (0, None))
        reservation, user_id = reservations.get(str(id_), (None, None))
        user = UUID(user_id) if user_id else None
        is_readable = order is not None or not version
        kind = classify(order, reservation) if is_readable else Kind.UNREADABLE
        checked[id_] = Difference(id=id_, kind=kind, user_id=user) if kind else None
    return checked


def _published() -> Cursor:
    """Wait until the relay has published all events that are committed now. Returns a cursor after
    them. Raises ReconcileError."""
    own = tables.of("orders")
    snapshot = coverage.snapshot_of(own)
    for _ in paced(every_seconds=POLL_SECONDS, within_seconds=CATCH_UP_SECONDS):
        cursor = streams.connect().cursor(own.label)
        if coverage.is_covered(own, snapshot, by=cursor.snapshot):
            return cursor
    raise ReconcileError(
        f"no common position within {CATCH_UP_SECONDS:.0f} s: the relay of orders has not "
        "published all events"
    )


def _reservations(
    peer: Peer, ids: Collection[UUID], *, applied: Cursor
) -> tuple[Mapping[str, Reservation], str]:
    """The reservations once accounts has applied all events up to the cursor, and a snapshot that
    sees their transactions. Raises ReconcileError."""
    asked: list[str] = []  # first, only the positions
    for _ in paced(every_seconds=POLL_SECONDS, within_seconds=CATCH_UP_SECONDS):
        answer = peer.ask("/internal/reservations/states/", ids=asked)
        positions = {int(partition): entry for partition, entry in answer["applied"].items()}
        if not coverage.has_reached(positions, applied):
            continue
        if asked:
            found = {id_: (status, user) for id_, (status, user) in answer["reservations"].items()}
            return found, str(answer["snapshot"])
        asked = [str(id_) for id_ in ids]
    raise ReconcileError(
        f"no common position within {CATCH_UP_SECONDS:.0f} s: {OWNER} has not applied all events "
        "of orders"
    )
