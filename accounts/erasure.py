"""Forgets a user: erases the user's personal data here, then purges the user's older events.

The user's row stays, because other rows refer to it. Name, address and password are replaced.
On the event `accounts.user.erased.v1` every consumer deletes its copy. Older events of the user
are deleted from the outbox and the streams once every subscriber has confirmed the erasure.
"""

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

from . import cached, families
from .domain.commands import ForgetUser
from .domain.errors import UserNotFound
from .domain.events import UserErased
from .models import Erasure, OutboxEvent, User, UserHistory
from .published import envelope, representation

ERASED = "erased"

# The history is append-only, even for its owner (migration 0001), and only the owner can grant
# itself the right to change it. Only this transaction sees the grant, because it revokes the grant
# before the commit.
ERASE_HISTORY = """
GRANT UPDATE (data) ON accounts_userhistory TO CURRENT_USER;
UPDATE accounts_userhistory SET data = data || jsonb_build_object('name', %s, 'email', %s)
 WHERE user_id = %s;
REVOKE UPDATE (data) ON accounts_userhistory FROM CURRENT_USER
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An erasure whose older events can't be purged yet, and the subscribers that it waits for."""

    user_id: UUID
    waits_for: tuple[str, ...]


def forget_user(command: ForgetUser) -> UserErased:
    """Erase the user's data and announce the erasure. A repeated call announces it again.

    The credit of the user's open orders stays reserved until the orders end. Needs the rights of
    the tables' owner. Raises UserNotFound.
    """
    alias = router.db_for_write(User)
    with tables.of("accounts").as_owner(), transaction.atomic(using=alias, savepoint=False):
        user = User.objects.using(alias).select_for_update().filter(pk=command.user_id).first()
        if user is None:
            raise UserNotFound(command.user_id)
        _erase(user)
        families.end_all(user.id)
        _erase_admin_log(user.id)
        event = UserErased(user_id=user.id, version=user.version, erased_at=user.updated_at)
        row = record(envelope(event), into=OutboxEvent)
        Erasure.objects.update_or_create(user_id=user.id, defaults={"row": row, "purged_at": None})
        transaction.on_commit(partial(cached.invalidate, user.id, user.version), using=alias)
    return event


def finish_erasures(*, of: UUID | None = None) -> list[Pending]:
    """Purge older events of all forgotten users, or of one user; returns erasures that still wait.

    Idempotent, and safe to run concurrently. Raises OutboxError if the stream server fails.
    """
    accounts = tables.of("accounts")
    unfinished = Erasure.objects.using(accounts.alias).filter(purged_at=None)
    chosen = list(unfinished if of is None else unfinished.filter(user_id=of))
    rows = {str(one.user_id): one.row for one in chosen}
    waiting = erasure.purge(accounts, streams.connect(), rows) if rows else {}
    for one in chosen:
        if str(one.user_id) not in waiting:
            # If the user was forgotten again in the meantime, the erasure has a new row and waits.
            unfinished.filter(user_id=one.user_id, row=one.row).update(purged_at=timezone.now())
    return [Pending(user_id=UUID(user), waits_for=names) for user, names in waiting.items()]


def _erase(user: User) -> None:
    now = timezone.now()
    user.name = ERASED
    user.email = f"{user.id}@{ERASED}.invalid"  # unique, and never deliverable (RFC 2606)
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
        cursor.execute(ERASE_HISTORY, [ERASED, user.email, user.id])


def _erase_admin_log(user_id: UUID) -> None:
    """Erase the e-mail address from the admin's log, which stores `str()` of each object."""
    LogEntry.objects.using(router.db_for_write(LogEntry)).filter(
        content_type__app_label=User._meta.app_label,
        content_type__model=User._meta.model_name,
        object_id=str(user_id),
    ).update(object_repr=ERASED)
