"""Forgetting a user: its personal data goes here, and then from the events that told of it.

The row stays, since orders and reservations name it, without a name, an address or a password. The
event `accounts.user.erased.v1` has every consumer drop what it keeps. Older events of the user hold
its data too; they go from the outbox and the streams once every subscriber is past them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import make_password
from django.db import connections, router, transaction
from django.utils import timezone

from outbox import streams, tables
from outbox.publishing import erasure
from outbox.recorder import record

from . import cached
from .domain.commands import ForgetUser
from .domain.errors import UserNotFound
from .domain.events import UserErased
from .models import Erasure, OutboxEvent, User, UserHistory
from .published import envelope, representation

NOBODY = "erased"

# Append-only, also for the owner (migration 0001): the right is there for this transaction alone.
ERASE_HISTORY = """
GRANT UPDATE (data) ON accounts_userhistory TO CURRENT_USER;
UPDATE accounts_userhistory SET data = data || jsonb_build_object('name', %s, 'email', %s)
 WHERE user_id = %s;
REVOKE UPDATE (data) ON accounts_userhistory FROM CURRENT_USER
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An erasure whose user's older events are still there, and whom they wait for."""

    user_id: UUID
    waits_for: tuple[str, ...]


def forget_user(command: ForgetUser) -> UserErased:
    """Erase the user's data here and tell it; a user that was forgotten before is told again.

    What its orders have reserved stays reserved until they end. Raises UserNotFound.
    """
    alias = router.db_for_write(User)
    with transaction.atomic(using=alias, savepoint=False):
        user = User.objects.using(alias).select_for_update().filter(pk=command.user_id).first()
        if user is None:
            raise UserNotFound(command.user_id)
        _erase(user)
        _erase_log(user.id)
        event = UserErased(user_id=user.id, version=user.version, erased_at=user.updated_at)
        row = record(envelope(event), into=OutboxEvent)
        Erasure.objects.update_or_create(user_id=user.id, defaults={"row": row, "purged_at": None})
        transaction.on_commit(partial(cached.invalidate, user.id, user.version), using=alias)
    return event


def finish_erasures(*, of: UUID | None = None) -> Iterator[Pending]:
    """Purge the older events of forgotten users, all or one; yields those that still wait.

    May be run at any time, by anybody, and again. Raises what the stream server does.
    """
    found = tables.of("accounts")
    waiting = Erasure.objects.using(found.alias).filter(purged_at=None)
    for one in waiting if of is None else waiting.filter(user_id=of):
        if lacking := erasure.lacking(found, streams.connect(), row=one.row):
            yield Pending(user_id=one.user_id, waits_for=lacking)
            continue
        erasure.purge(found, streams.connect(), subject=str(one.user_id), before=one.row)
        # Not if it was forgotten again meanwhile: that one has a row of its own to wait for.
        waiting.filter(user_id=one.user_id, row=one.row).update(purged_at=timezone.now())


def _erase(user: User) -> None:
    now = timezone.now()
    user.name = NOBODY
    user.email = f"{user.id}@{NOBODY}.invalid"  # unique, and no address (RFC 2606)
    user.password = make_password(None)
    user.is_active = user.is_staff = False
    user.version += 1
    user.updated_at = max(now, user.updated_at)
    user.erased_at = user.erased_at or now
    user.save()
    UserHistory.objects.create(
        user_id=user.id,
        version=user.version,
        event=UserErased.__name__,
        data=representation(user.state()),
        recorded_at=user.updated_at,
    )
    with connections[router.db_for_write(UserHistory)].cursor() as cursor:
        cursor.execute(ERASE_HISTORY, [NOBODY, user.email, user.id])


def _erase_log(user_id: UUID) -> None:
    """The admin's log keeps what an object was called."""
    mine = LogEntry.objects.using(router.db_for_write(LogEntry)).filter(
        content_type__app_label=User._meta.app_label,
        content_type__model=User._meta.model_name,
        object_id=str(user_id),
    )
    mine.update(object_repr=NOBODY)
