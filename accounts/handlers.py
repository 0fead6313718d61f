"""One function per command, one transaction each: write the rows, then record the event."""

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from outbox.recorder import record

from . import cached
from .domain import user as rules
from .domain.commands import DeactivateUser, RegisterUser, ReleaseCredit, ReserveCredit, UpdateUser
from .domain.errors import EmailTaken, UserNotFound, WeakPassword
from .domain.events import (
    CreditChange,
    CreditRefused,
    CreditReleased,
    CreditReserved,
    RefusalReason,
    UserChange,
    UserErased,
    UserUpdated,
)
from .domain.state import UserState
from .models import ONE_USER_PER_EMAIL, STATE_FIELDS, OutboxEvent, Reservation, User, UserHistory
from .published import amount, envelope, representation


def register_user(command: RegisterUser) -> UserState:
    """Raises WeakPassword or EmailTaken."""
    password = _encoded(command.password, email=command.email)
    try:
        with transaction.atomic(using=router.db_for_write(User), savepoint=False):
            event = rules.register(command, now=timezone.now())
            row = {name: getattr(event.user, name) for name in STATE_FIELDS}
            User.objects.create(**row, password=password)
            _announce(event)
    except IntegrityError as exc:
        raise _named(exc, email=command.email) from exc
    return event.user


def update_user(command: UpdateUser) -> UserState:
    """The user afterwards. Nothing is written or told if nothing would change.

    Raises UserNotFound, StaleVersion, WeakPassword, EmailTaken, CreditLimitBelowReserved, and
    without the staff's authority StaffOnly or UserInactive.
    """
    secrets = {}
    if command.password is not None:
        # Before the transaction: hashing is slow by design, and no row may wait for it.
        secrets["password"] = _encoded(command.password, email=_email_after(command))
    try:
        with transaction.atomic(using=router.db_for_write(User), savepoint=False):
            before = _locked(command.user_id, among=User.objects.filter(erased_at=None))
            if before is None:
                raise UserNotFound(command.user_id)
            event = rules.revise(before, command, now=timezone.now())
            if event is None:
                return before
            row = {name: getattr(event.user, name) for name in STATE_FIELDS}
            User.objects.filter(pk=row.pop("id")).update(**row, **secrets)
            _announce(event)
    except IntegrityError as exc:
        raise _named(exc, email=command.email or "") from exc
    return event.user


def deactivate_user(command: DeactivateUser) -> UserState:
    """Raises UserNotFound or StaleVersion; a user that is inactive already stays as it is."""
    return update_user(
        UpdateUser(
            user_id=command.user_id,
            expected_version=command.expected_version,
            by_staff=True,
            is_active=False,
        )
    )


def reannounce(*, after: str, limit: int) -> str:
    """Tell the state of the next `limit` users after the id `after` ('' to begin) once more.

    Returns the last one's id, '' when there are no more. The rows are locked first, so each
    telling takes its place among the user's events.
    """
    alias = router.db_for_write(User)
    rows = User.objects.using(alias).order_by("pk").select_for_update()
    with transaction.atomic(using=alias, savepoint=False):
        found = list((rows.filter(pk__gt=after) if after else rows)[:limit])
        for row in found:
            if row.erased_at is None:
                record(envelope(UserUpdated(user=row.state(), changed=())), into=OutboxEvent)
            else:
                _announce_nobody(row.pk)
    return str(found[-1].pk) if found else ""


def reannounce_users(ids: Collection[UUID]) -> tuple[int, int]:
    """Tell the state of these users once more, and that there is none of those that are unknown or
    forgotten; how many of each."""
    alias = router.db_for_write(User)
    with transaction.atomic(using=alias, savepoint=False):
        known = User.objects.using(alias).filter(pk__in=ids, erased_at=None)
        rows = list(known.order_by("pk").select_for_update())
        for row in rows:
            record(envelope(UserUpdated(user=row.state(), changed=())), into=OutboxEvent)
        nobody = sorted({*ids} - {row.pk for row in rows})
        for user_id in nobody:
            _announce_nobody(user_id)
    return len(rows), len(nobody)


def _announce_nobody(user_id: UUID) -> None:
    row = User.objects.filter(pk=user_id).first()
    event = UserErased(user_id=user_id, version=row.version if row else 0, erased_at=timezone.now())
    record(envelope(event), into=OutboxEvent)


def reserve_credit(command: ReserveCredit) -> CreditReserved | CreditRefused | None:
    """Reserve once, or refuse once; None if this order was answered before.

    An unknown or inactive user and an order that has ended are refused, never an error: the
    order must learn of it, and a retry couldn't help.
    """
    with transaction.atomic(using=router.db_for_write(User), savepoint=False):
        now = timezone.now()
        # First of all, so that whatever else concerns this order waits for this transaction.
        if Reservation.objects.insert_once(
            command.order_id,
            Reservation.Status.RESERVED,
            user_id=command.user_id,
            amount=command.amount,
            now=now,
        ):
            return _reserve_or_refuse(command, now=now)
        reservation = Reservation.objects.select_for_update().get(pk=command.order_id)
        if reservation.amount is not None:
            return None
        user = _locked(command.user_id)
        return _refuse(command, user, RefusalReason.ORDER_ENDED, now=now)


def release_credit(command: ReleaseCredit) -> CreditReleased | None:
    """Give back what the order's reservation row says, once.

    None if there is nothing to give back. For an order that isn't known yet it leaves a
    tombstone, by which the reserve that comes too late is refused.
    """
    with transaction.atomic(using=router.db_for_write(User), savepoint=False):
        now = timezone.now()
        tombstone = Reservation.Status.RELEASED
        if Reservation.objects.insert_once(command.order_id, tombstone, now=now):
            return None
        reservation = Reservation.objects.select_for_update().get(pk=command.order_id)
        user_id, held = reservation.user_id, reservation.amount
        if reservation.status != Reservation.Status.RESERVED or user_id is None or held is None:
            return None
        reservation.status = Reservation.Status.RELEASED
        reservation.updated_at = now
        reservation.save(update_fields=["status", "updated_at"])
        user = User.objects.give_back_credit(user_id, held, now=now)
        event = CreditReleased(user=user, order_id=command.order_id, amount=held)
        _announce(event)
        return event


def _reserve_or_refuse(command: ReserveCredit, *, now: datetime) -> CreditReserved | CreditRefused:
    while (after := User.objects.take_credit(command.user_id, command.amount, now=now)) is None:
        # The user is locked before it is refused, so that the refusal takes its place among
        # the user's events, and says what was true then.
        user = _locked(command.user_id)
        if reason := rules.refusal(user, amount=command.amount):
            return _refuse(command, user, reason, now=now)
        # Credit came back between the two statements; under the lock the next turn succeeds.
    event = CreditReserved(user=after, order_id=command.order_id, amount=command.amount)
    _announce(event)
    return event


def _refuse(
    command: ReserveCredit,
    user: UserState | None,
    reason: RefusalReason,
    *,
    now: datetime,
) -> CreditRefused:
    Reservation.objects.filter(pk=command.order_id).update(
        status=Reservation.Status.REFUSED,
        user_id=command.user_id,
        amount=command.amount,
        updated_at=now,
    )
    event = CreditRefused(
        user=user,
        user_id=command.user_id,
        order_id=command.order_id,
        amount=command.amount,
        reason=reason,
        refused_at=now,
    )
    record(envelope(event), into=OutboxEvent)
    return event


def _announce(event: UserChange | CreditChange) -> None:
    """Keep the new version in the history and record the event. The user is written by now."""
    user = event.user
    more: dict[str, Any] = {"is_staff": user.is_staff}
    if isinstance(event, CreditChange):
        more |= {"order_id": str(event.order_id), "amount": amount(event.amount)}
    else:
        more |= {"changed": list(getattr(event, "changed", ()))}
    UserHistory.objects.create(
        user_id=user.id,
        version=user.version,
        event=type(event).__name__,
        data=representation(user) | more,
        recorded_at=user.updated_at,
    )
    record(envelope(event), into=OutboxEvent)
    transaction.on_commit(
        partial(cached.invalidate, user.id, user.version), using=router.db_for_write(User)
    )


def _locked(user_id: UUID, *, among: QuerySet[User] | None = None) -> UserState | None:
    row = (
        (User.objects.all() if among is None else among)
        .select_for_update()
        .filter(pk=user_id)
        .first()
    )
    return None if row is None else row.state()


def _email_after(command: UpdateUser) -> str:
    if command.email is not None:
        return command.email
    primary = User.objects.using(router.db_for_write(User))
    email = primary.filter(pk=command.user_id).values_list("email", flat=True).first()
    if email is None:
        raise UserNotFound(command.user_id)
    return email


def _encoded(password: str, *, email: str) -> str:
    try:
        validate_password(password, user=User(email=email))  # type: ignore[arg-type]
    except ValidationError as exc:
        raise WeakPassword(exc.messages) from exc
    return make_password(password)


def _named(exc: IntegrityError, *, email: str) -> Exception:
    constraint = getattr(getattr(exc.__cause__, "diag", None), "constraint_name", None)
    return EmailTaken(email) if constraint == ONE_USER_PER_EMAIL else exc
