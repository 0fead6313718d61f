"""One function per command. Each runs one transaction: lock, read, decide, append, record.

Two rules apply to all functions. One statement appends an event and then adds its outbox row, so
that outbox ids follow the order of commits. Each transaction locks the order's deadline row
first: the sweep holds this lock while it expires an order, so another sequence could deadlock.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, router, transaction
from django.utils import timezone

from outbox.recorder import nudge_on_commit, record, row_of, set_last_write

from . import event_store
from .domain.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    ExpireOrder,
    PlaceOrder,
    RejectOrder,
)
from .domain.errors import IdempotencyInFlight, IdempotencyKeyReused, OrderNotFound
from .domain.events import Event
from .domain.importing import ImportOrder, history_of
from .domain.metadata import Metadata
from .domain.order import Order, Status, decide, evolve, fold
from .models import IdempotentRequest, OrderDeadline, OutboxEvent, StoredEvent
from .published import announce, announce_current, represent

NO_METADATA = Metadata()
EXPIRY_RETRY_SECONDS = 60  # until an order that couldn't be expired is tried again


def place_order(command: PlaceOrder, *, metadata: Metadata = NO_METADATA) -> Order:
    """Place a new order. It is pending until accounts decides or its deadline passes.

    Raises InvalidLines, or OrderExists if the id is taken.
    """
    with transaction.atomic(using=router.db_for_write(StoredEvent), savepoint=False):
        order = _execute(command, metadata)
        _set_deadline(order.id, placed_at=order.placed_at)
    return order


def import_order(command: ImportOrder) -> bool:
    """Store an order of another application, with the events that lead to its status. Returns False
    if this id exists. Raises InvalidLines or NotImportable.

    Announces only the order's current state: otherwise accounts would first reserve the credit of
    ended orders, and could refuse an active order of the same customer.
    """
    alias = router.db_for_write(StoredEvent)
    with transaction.atomic(using=alias, savepoint=False):
        if event_store.last_of([command.order_id]):
            return False
        events: list[Event] = []
        for step, at in history_of(command):
            events += decide(fold(events), step, at=at)
        if order := fold(events):
            xid = event_store.append(
                command.order_id,
                expected_version=0,
                events=events,
                metadata=Metadata(actor="import", correlation=str(command.order_id)),
                announcing=[row_of(announce_current(order))],
            )
            nudge_on_commit(xid, into=OutboxEvent, using=alias)
            if order.status is Status.PENDING:
                _set_deadline(order.id, placed_at=timezone.now())
        return True


def _set_deadline(order_id: UUID, *, placed_at: datetime) -> None:
    due_at = placed_at + timedelta(seconds=settings.ORDERS_DEADLINE_SECONDS)
    OrderDeadline.objects.create(order_id=order_id, due_at=due_at)


def confirm_order(command: ConfirmOrder, *, metadata: Metadata = NO_METADATA) -> Order:
    """Confirm a pending order, disown an unknown one; any other order stays unchanged."""
    return _execute(command, metadata)


def reject_order(command: RejectOrder, *, metadata: Metadata = NO_METADATA) -> Order:
    """Reject a pending order, disown an unknown one; any other order stays unchanged."""
    return _execute(command, metadata)


def cancel_order(command: CancelOrder, *, metadata: Metadata = NO_METADATA) -> Order:
    """Cancel a pending or confirmed order.

    Raises OrderNotFound, OrderEnded, or ConcurrentAppend if the order changed concurrently.
    """
    return _execute(command, metadata)


def expire_order(command: ExpireOrder, *, metadata: Metadata = NO_METADATA) -> Order:
    """Expire a pending order; any other order stays unchanged. Raises OrderNotFound."""
    return _execute(command, metadata)


def _execute(command: Command, metadata: Metadata) -> Order:
    alias = router.db_for_write(StoredEvent)
    with transaction.atomic(using=alias, savepoint=False):
        # Only a pending order has a deadline row, and every command ends this state or fails. So
        # this DELETE locks and removes the deadline row; a rollback restores the row.
        OrderDeadline.objects.filter(order_id=command.order_id).delete()
        order = fold(event_store.load(command.order_id))
        events = decide(order, command, at=_now(order))
        version, rows = order.version if order else 0, []
        for event in events:
            order = evolve(order, event)
            rows.append(row_of(announce(event, order, traceparent=metadata.traceparent)))
        if events:
            xid = event_store.append(
                command.order_id,
                expected_version=version,
                events=events,
                metadata=replace(metadata, correlation=str(command.order_id)),
                announcing=rows,
            )
            nudge_on_commit(xid, into=OutboxEvent, using=alias)
        if order is None:  # unreachable: TRANSITIONS places or refuses an unknown order
            raise OrderNotFound(command.order_id)
        return order


def _now(order: Order | None) -> datetime:
    """The current time, but never before the last event: another machine's clock may be ahead."""
    return max(timezone.now(), order.updated_at) if order else timezone.now()


def backfill(*, after: str, limit: int) -> str:
    """Announce the current state of the next `limit` orders after the id `after` ('' to start).

    Returns the last id, '' when no order is left. Consumers ignore a state if they have a later
    version.
    """
    alias = router.db_for_write(StoredEvent)
    first = StoredEvent.objects.using(alias).filter(version=1)
    streams = (first.filter(stream__gt=after) if after else first).order_by("stream")
    found = list(streams.values_list("stream", flat=True)[:limit])
    backfill_orders(found)
    return str(found[-1]) if found else ""


def backfill_orders(ids: Iterable[UUID]) -> None:
    """Announce the current state of these orders. Unknown orders are left out."""
    with transaction.atomic(using=router.db_for_write(StoredEvent), savepoint=False):
        for order_id in ids:
            if order := fold(event_store.load(order_id)):
                record(announce_current(order), into=OutboxEvent)


def expire_due_orders(*, limit: int) -> int:
    """Expire up to `limit` orders whose deadline has passed; returns how many.

    Runs one transaction per order and skips locked orders, so sweeps may run concurrently. An
    order that can't be expired is tried again after EXPIRY_RETRY_SECONDS, so it doesn't stop the
    others. Its error is raised at the end, in an ExceptionGroup.
    """
    alias = router.db_for_write(OrderDeadline)
    deadlines = OrderDeadline.objects.using(alias)
    due = deadlines.filter(due_at__lte=timezone.now()).order_by("due_at")
    expired, failures = 0, []
    for order_id in list(due.values_list("order_id", flat=True)[:limit]):
        try:
            with transaction.atomic(using=alias):
                free = deadlines.select_for_update(skip_locked=True)
                if free.filter(order_id=order_id).first():
                    expire_order(ExpireOrder(order_id=order_id))
                    expired += 1
        except Exception as failure:  # noqa: BLE001 - raised at the end
            failures.append(failure)
            # If the database doesn't answer, this raises its error and ends the sweep.
            retry_at = timezone.now() + timedelta(seconds=EXPIRY_RETRY_SECONDS)
            deadlines.filter(order_id=order_id).update(due_at=retry_at)
    if failures:
        raise ExceptionGroup("orders that could not be expired", failures)
    return expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The response to a request that places an order. A repeated request gets the same response."""

    order_id: UUID
    status: int
    body: dict[str, Any]


def place_order_once(
    command: PlaceOrder, *, caller: str, key: str, metadata: Metadata = NO_METADATA
) -> Answer:
    """Place an order at most once per `caller` and `key`.

    The key, the request's fingerprint and the answer are stored with the order; a repeated request
    gets the same answer and changes nothing. A failed request stores no key.

    Raises IdempotencyInFlight while another request with this key runs, IdempotencyKeyReused if the
    key belongs to an order with other lines or for another user, and the errors of `place_order`.
    """
    alias = router.db_for_write(IdempotentRequest)
    fingerprint = _fingerprint_of(command)
    with transaction.atomic(using=alias, savepoint=False):
        if not _lock_key(alias, caller=caller, key=key):
            raise IdempotencyInFlight(key)
        # A separate statement, after the lock: its snapshot sees the last lock holder's commit.
        known = IdempotentRequest.objects.using(alias).filter(caller=caller, key=key).first()
        if known is None:
            return _place_and_keep_answer(command, caller, key, fingerprint, metadata)
    if known.fingerprint != fingerprint:
        raise IdempotencyKeyReused(key)
    if xid := event_store.xid_of(known.order_id):
        set_last_write("orders", xid)
    return Answer(order_id=known.order_id, status=known.status, body=json.loads(known.body))


def drop_old_answers(*, limit: int) -> int:
    """Delete up to `limit` answers older than ORDERS_IDEMPOTENCY_SECONDS, the oldest first; returns
    how many. Their keys are free again: a request with such a key places another order.
    """
    alias = router.db_for_write(IdempotentRequest)
    age = timedelta(seconds=settings.ORDERS_IDEMPOTENCY_SECONDS)
    answers = IdempotentRequest.objects.using(alias)
    old = answers.filter(created_at__lt=timezone.now() - age).order_by("created_at")
    with transaction.atomic(using=alias):
        chosen = list(old.select_for_update(skip_locked=True).values_list("pk", flat=True)[:limit])
        return answers.filter(pk__in=chosen).delete()[0]


def _place_and_keep_answer(
    command: PlaceOrder, caller: str, key: str, fingerprint: str, metadata: Metadata
) -> Answer:
    order = place_order(command, metadata=metadata)
    answer = Answer(order_id=order.id, status=HTTPStatus.CREATED, body=represent(order))
    IdempotentRequest.objects.create(
        caller=caller,
        key=key,
        fingerprint=fingerprint,
        status=answer.status,
        body=json.dumps(answer.body),
        order_id=answer.order_id,
    )
    return answer


def _fingerprint_of(command: PlaceOrder) -> str:
    lines = [
        [line.sku, line.quantity, f"{line.unit_price.normalize():f}"] for line in command.lines
    ]
    return sha256(json.dumps([str(command.user_id), lines]).encode()).hexdigest()


def _lock_key(alias: str, *, caller: str, key: str) -> bool:
    """Whether this transaction acquired the key's lock. All schemas of a database share advisory
    locks, so the hash includes the service and the purpose."""
    name = json.dumps(["orders", "idempotency", caller, key]).encode()
    number = int.from_bytes(blake2b(name, digest_size=8).digest(), signed=True)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (locked,) = cursor.fetchone()
    return bool(locked)
