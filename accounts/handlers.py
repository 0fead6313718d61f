"""One function per command. Each runs one transaction: write the rows, then record the event."""

from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import identify_hasher, is_password_usable
from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from outbox.models import CurrentXactId
from outbox.recorder import record

from . import cached, families, passwords
from .domain import user as rules
from .domain.commands import (
    DeactivateUser,
    ImportUser,
    RegisterUser,
    ReleaseCredit,
    ReserveCredit,
    UpdateUser,
)
from .domain.errors import EmailTaken, UserNotFound, WeakPassword, WrongPassword
from .domain.events import (
    CreditChange,
    CreditRefused,
    CreditReleased,
    CreditReserved,
    RefusalReason,
    UserChange,
    UserDeactivated,
    UserErased,
    UserUpdated,
)
from .domain.state import UserState
from .models import ONE_USER_PER_EMAIL, OutboxEvent, Reservation, User, UserHistory
from .published import amount, envelope, representation


def register_user(command: RegisterUser) -> UserState:
    """Register a user. Raises WeakPassword, InvalidField or EmailTaken."""
    event = rules.register(command, now=timezone.now())
    passwords.require_strong(command.password, email=command.email)
    _require_free(command.email, but=command.user_id)
    password = passwords.hashed(command.password)
    try:
        with transaction.atomic(using=router.db_for_write(User), savepoint=False):
            User.objects.create(**asdict(event.user), password=password)
            _announce(event)
    except IntegrityError as exc:
        raise _email_taken_or(exc, email=command.email) from exc
    return event.user


def import_user(command: ImportUser) -> bool:
    """Register a user of another application, as of the time of its registration there. Returns
    False if this id exists. Raises EmailTaken, or WeakPassword if the password isn't a hash."""
    if is_password_usable(command.password):
        try:
            identify_hasher(command.password)
        except ValueError as exc:
            raise WeakPassword(["The password isn't a hash of Django."]) from exc
    if User.objects.using(router.db_for_write(User)).filter(pk=command.user_id).exists():
        return False
    try:
        with transaction.atomic(using=router.db_for_write(User), savepoint=False):
            event = rules.register(command, now=command.registered_at)
            User.objects.create(**asdict(event.user), password=command.password)
            _announce(event)
    except IntegrityError as exc:
        raise _email_taken_or(exc, email=command.email) from exc
    return True


def update_user(command: UpdateUser) -> UserState:
    """Return the user after the change. Writes and announces nothing if nothing would change.

    A new password, and a deactivation, end the user's token families.

    Raises UserNotFound, StaleVersion, WeakPassword, InvalidField, EmailTaken,
    CreditLimitBelowReserved; WrongPassword unless `changed_by` is None; and StaffOnly or
    UserInactive unless `by_staff`.
    """
    secrets: dict[str, str] = {}
    if command.password is not None or command.email is not None:
        # Before the transaction: hashing is slow by design, and must not hold a row lock.
        command, secrets = _prove_and_hash(command)
    try:
        with transaction.atomic(using=router.db_for_write(User), savepoint=False):
            before = _lock_user(command.user_id, among=User.objects.filter(erased_at=None))
            if before is None:
                raise UserNotFound(command.user_id)
            event = rules.revise(before, command, now=timezone.now())
            if event is None:
                return before
            row = asdict(event.user)
            User.objects.filter(pk=row.pop("id")).update(**row, **secrets)
            _announce(event)
            if secrets or isinstance(event, UserDeactivated):
                families.end_all(command.user_id)
    except IntegrityError as exc:
        raise _email_taken_or(exc, email=command.email or "") from exc
    return event.user


def renew_hash(user_id: UUID, password: str, *, encoded: str) -> None:
    """After a log-in: hash the password again if its hash `encoded` is outdated, as that of an
    imported user can be. Else the time of a wrong guess would tell that the user exists.

    Announces nothing, because the password is the same, and does nothing if it has been changed.
    """
    if passwords.is_outdated(encoded):
        rows = User.objects.using(router.db_for_write(User)).filter(pk=user_id, password=encoded)
        rows.update(password=passwords.hashed(password))


def deactivate_user(command: DeactivateUser) -> UserState:
    """Deactivate a user, unless the user is inactive. Raises UserNotFound or StaleVersion."""
    return update_user(
        UpdateUser(
            user_id=command.user_id,
            expected_version=command.expected_version,
            by_staff=True,
            is_active=False,
        )
    )


def backfill(*, after: str, limit: int) -> str:
    """Announce the current state of the next `limit` users after the id `after` ('' to start).

    Returns the last user's id, '' when there are no more. The rows are locked first, so that each
    announcement is in sequence with the user's other events.
    """
    alias = router.db_for_write(User)
    rows = User.objects.using(alias).order_by("pk").select_for_update()
    with transaction.atomic(using=alias, savepoint=False):
        found = list((rows.filter(pk__gt=after) if after else rows)[:limit])
        for row in found:
            _announce_state(row)
    return str(found[-1].pk) if found else ""


def backfill_users(ids: Collection[UUID]) -> tuple[int, int]:
    """Announce the current state of these users, and the erasure of users that are unknown or
    forgotten. Returns the number of states and the number of erasures."""
    alias = router.db_for_write(User)
    with transaction.atomic(using=alias, savepoint=False):
        known = User.objects.using(alias).filter(pk__in=ids, erased_at=None)
        rows = list(known.order_by("pk").select_for_update())
        for row in rows:
            _announce_state(row)
        unknown = sorted({*ids} - {row.pk for row in rows})
        for user_id in unknown:
            _announce_erased(user_id, User.objects.filter(pk=user_id).first())
    return len(rows), len(unknown)


def _announce_state(row: User) -> None:
    if row.erased_at is None:
        record(envelope(UserUpdated(user=row.state(), changed=())), into=OutboxEvent)
    else:
        _announce_erased(row.pk, row)


def _announce_erased(user_id: UUID, row: User | None) -> None:
    event = UserErased(user_id=user_id, version=row.version if row else 0, erased_at=timezone.now())
    record(envelope(event), into=OutboxEvent)


def reserve_credit(command: ReserveCredit) -> CreditReserved | CreditRefused | None:
    """Reserve or refuse credit, once per order; None if an earlier call has decided.

    It refuses an unknown or inactive user, or an ended order. A refusal isn't an error, because the
    order needs the answer and a retry can't succeed.
    """
    with transaction.atomic(using=router.db_for_write(User), savepoint=False):
        now = timezone.now()
        # Insert first, so that other transactions for this order wait for this transaction.
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
        user = _lock_user(command.user_id)
        return _refuse(command, user, RefusalReason.ORDER_ENDED, now=now)


def release_credit(command: ReleaseCredit) -> CreditReleased | None:
    """Release the credit that the order holds, once; None if the order holds none.

    For an unknown order it writes a tombstone, so that a later reservation is refused.
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
        reservation.released_xid = CurrentXactId()
        reservation.save(update_fields=["status", "updated_at", "released_xid"])
        user = User.objects.release_credit(user_id, held, now=now)
        event = CreditReleased(user=user, order_id=command.order_id, amount=held)
        _announce(event)
        return event


def _reserve_or_refuse(command: ReserveCredit, *, now: datetime) -> CreditReserved | CreditRefused:
    while (after := User.objects.reserve_credit(command.user_id, command.amount, now=now)) is None:
        # The user is locked before the refusal, so that the refusal is in sequence with the user's
        # other events and its reason is still true.
        user = _lock_user(command.user_id)
        if reason := rules.refusal(user, amount=command.amount):
            return _refuse(command, user, reason, now=now)
        # Credit was released between the two statements; under the lock the next try succeeds.
    event = CreditReserved(user=after, order_id=command.order_id, amount=command.amount)
    _announce(event)
    return event


def _refuse(
    command: ReserveCredit, user: UserState | None, reason: RefusalReason, *, now: datetime
) -> CreditRefused:
    Reservation.objects.filter(pk=command.order_id).update(
        status=Reservation.Status.REFUSED,
        user_id=command.user_id,
        amount=command.amount,
        updated_at=now,
        decided_xid=CurrentXactId(),  # a tombstone has the transaction of the order's end
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
    """Add the new version to the history and record the event. Write the user's row first."""
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


def _lock_user(user_id: UUID, *, among: QuerySet[User] | None = None) -> UserState | None:
    users = User.objects.all() if among is None else among
    row = users.select_for_update().filter(pk=user_id).first()
    return None if row is None else row.state()


def _prove_and_hash(command: UpdateUser) -> tuple[UpdateUser, dict[str, str]]:
    """Refuse what can be refused without a hash, then check the caller's password if the change
    needs it, then hash the new password. Returns the command for the version that was checked, and
    the columns of secrets."""
    users = User.objects.using(router.db_for_write(User))
    row = users.filter(pk=command.user_id, erased_at=None).first()
    if row is None:
        raise UserNotFound(command.user_id)
    event = rules.revise(row.state(), command, now=timezone.now())
    changed = getattr(event, "changed", ())
    email = command.email if command.email is not None else row.email
    if command.password is not None:
        passwords.require_strong(command.password, email=email)
    if "email" in changed:
        _require_free(email, but=row.pk)
    if command.changed_by is not None:
        if rules.PROVEN_FIELDS & set(changed):
            _require_password(command.changed_by, command.current_password)
        command = replace(command, expected_version=row.version)
    if command.password is None:
        return command, {}
    return command, {"password": passwords.hashed(command.password)}


def _require_password(user_id: UUID, given: str | None) -> None:
    """Raises WrongPassword unless this is the current password of this user."""
    users = User.objects.using(router.db_for_write(User)).filter(pk=user_id)
    encoded = users.values_list("password", flat=True).first()
    if given is None or not passwords.is_correct(given, encoded):
        raise WrongPassword


def _require_free(email: str, *, but: UUID) -> None:
    """Raises EmailTaken if another user than `but` has the address. Between two concurrent commands
    the constraint of the table decides."""
    users = User.objects.using(router.db_for_write(User))
    if users.with_email(email).exclude(pk=but).exists():
        raise EmailTaken(email)


def _email_taken_or(exc: IntegrityError, *, email: str) -> Exception:
    constraint = getattr(getattr(exc.__cause__, "diag", None), "constraint_name", None)
    return EmailTaken(email) if constraint == ONE_USER_PER_EMAIL else exc
