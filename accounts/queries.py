"""Reads for the API, and what a log-in needs."""

from dataclasses import dataclass
from uuid import UUID

from django.db import router
from django.db.models import QuerySet, Value
from django.db.models.functions import Lower

from .domain.errors import UserNotFound
from .domain.state import UserState
from .models import User, UserHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves who somebody is. It never leaves the service."""

    user_id: UUID
    password_hash: str
    is_staff: bool
    is_active: bool


def users() -> QuerySet[User]:
    return User.objects.defer("password")


def users_with_id(user_id: UUID | None) -> QuerySet[User]:
    """One user or none: what a caller without the staff's rights has of the list."""
    return users().none() if user_id is None else users().filter(pk=user_id)


def user(user_id: UUID) -> UserState:
    """Raises UserNotFound."""
    row = users().filter(pk=user_id).first()
    if row is None:
        raise UserNotFound(user_id)
    return row.state()


def is_active_staff(user_id: UUID) -> bool:
    """As the primary has it: a replica could still know somebody who was let go."""
    staff = User.objects.using(router.db_for_write(User)).filter(is_staff=True, is_active=True)
    return staff.filter(pk=user_id).exists()


def with_email(among: QuerySet[User], email: str) -> QuerySet[User]:
    """Whatever the letter case; by the index that keeps addresses unique."""
    return among.alias(lowered=Lower("email")).filter(lowered=Lower(Value(email)))


def history(user_id: UUID) -> QuerySet[UserHistory]:
    return UserHistory.objects.filter(user_id=user_id)


def credentials_of_email(email: str) -> Credentials | None:
    return _credentials(with_email(User.objects.all(), email).first())


def credentials_of(user_id: UUID) -> Credentials | None:
    return _credentials(User.objects.filter(pk=user_id).first())


def _credentials(row: User | None) -> Credentials | None:
    if row is None:
        return None
    return Credentials(
        user_id=row.id,
        password_hash=row.password,
        is_staff=row.is_staff,
        is_active=row.is_active,
    )
