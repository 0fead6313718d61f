"""Reads for the API, for log-in and for the routes between services."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import router, transaction
from django.db.models import QuerySet

from outbox import tables
from outbox.agreeing import coverage
from outbox.agreeing.checksums import Checksums

from . import cached
from .domain.errors import UserNotFound
from .domain.state import UserState
from .models import Reservation, User, UserHistory

# The columns that other services may copy; `orders.reconcile` lists them in the same order.
CHECKSUMS: Final = Checksums(
    model=User,
    columns=(
        "id",
        "name",
        "email",
        "credit_limit",
        "credit_reserved",
        "is_active",
        "version",
        "created_at",
        "updated_at",
    ),
    where="erased_at IS NULL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The data that log-in checks. The data never leaves the service."""

    user_id: UUID
    password_hash: str
    is_staff: bool
    is_active: bool


def users() -> QuerySet[User]:
    """All users except forgotten ones."""
    return User.objects.filter(erased_at=None).defer("password")


def users_with_id(user_id: UUID | None) -> QuerySet[User]:
    """The users that a caller without staff rights may see: one user or none."""
    return users().none() if user_id is None else users().filter(pk=user_id)


def user(user_id: UUID) -> UserState:
    """One user, from the cache or the primary. Raises UserNotFound."""
    primary = router.db_for_write(User)

    def load() -> UserState | None:
        row = users().using(primary).filter(pk=user_id).first()
        return None if row is None else row.state()

    # A transaction may see data that is uncommitted or not the latest, so don't cache it.
    inside = transaction.get_connection(primary).in_atomic_block
    state = load() if inside else cached.user(user_id, load=load)
    if state is None:
        raise UserNotFound(user_id)
    return state


def find_user_id(text: str) -> UUID | None:
    """The id of the user with this id or e-mail address, even if forgotten; None if unknown."""
    primary = User.objects.using(router.db_for_write(User))
    try:
        found: QuerySet[User] = primary.filter(pk=UUID(text))
    except ValueError:
        found = primary.with_email(text)
    return found.values_list("pk", flat=True).first()


def is_active_staff(user_id: UUID) -> bool:
    """Whether the user is active staff. Read on the primary: a replica may show revoked rights."""
    staff = User.objects.using(router.db_for_write(User)).filter(is_staff=True, is_active=True)
    return staff.filter(pk=user_id).exists()


def snapshot() -> str:
    """A snapshot of the committed transactions. Call it after the reads that it must cover."""
    return coverage.snapshot_of(tables.of("accounts"))


def is_published(snapshot: str, *, by: str) -> bool:
    """Whether the published snapshot `by` covers all events that `snapshot` sees."""
    return coverage.is_covered(tables.of("accounts"), snapshot, by=by)


def holding_orders(*, after: UUID, rows: int) -> list[UUID]:
    """The next orders after the id `after` that hold credit, read on the primary."""
    found = Reservation.objects.using(router.db_for_write(Reservation))
    holding = found.filter(status=Reservation.Status.RESERVED, order_id__gt=after)
    return list(holding.order_by("order_id").values_list("order_id", flat=True)[:rows])


def reservations(order_ids: Collection[UUID]) -> dict[UUID, tuple[str, UUID | None]]:
    """The status and the user of these orders' reservations, read on the primary."""
    rows = Reservation.objects.using(router.db_for_write(Reservation))
    found = rows.filter(order_id__in=order_ids).values_list("order_id", "status", "user_id")
    return {order_id: (status, user_id) for order_id, status, user_id in found}


def applied_orders() -> dict[int, str]:
    """How far `credit` has applied the streams of orders. Call it before reading reservations."""
    return coverage.positions_of(tables.of("accounts"), consumer="credit", producer="orders")


def history(user_id: UUID) -> QuerySet[UserHistory]:
    return UserHistory.objects.filter(user_id=user_id)


def credentials_of_email(email: str) -> Credentials | None:
    return _credentials(User.objects.with_email(email).first())


def credentials_of(user_id: UUID) -> Credentials | None:
    return _credentials(User.objects.filter(pk=user_id).first())


def _credentials(row: User | None) -> Credentials | None:
    if row is None:
        return None
    return Credentials(
        user_id=row.id, password_hash=row.password, is_staff=row.is_staff, is_active=row.is_active
    )
