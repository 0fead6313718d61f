"""The domain events of accounts."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from .state import UserState


class RefusalReason(StrEnum):
    INSUFFICIENT_CREDIT = "insufficient_credit"
    UNKNOWN_USER = "unknown_user"
    INACTIVE_USER = "inactive_user"
    ORDER_ENDED = "order_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRegistered:
    user: UserState


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdated:
    """`changed` names the changed fields, also `password`. No event contains the password."""

    user: UserState
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeactivated:
    user: UserState
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserErased:
    """The user was forgotten or never existed: consumers must delete their copies. `version` is
    the user's last version, 0 for an unknown user."""

    user_id: UUID
    version: int
    erased_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditReserved:
    user: UserState
    order_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditReleased:
    user: UserState
    order_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditRefused:
    """The user is unchanged and keeps its version. `user` is None if the user is unknown."""

    user: UserState | None
    user_id: UUID
    order_id: UUID
    amount: Decimal
    reason: RefusalReason
    refused_at: datetime


UserChange = UserRegistered | UserUpdated | UserDeactivated
CreditChange = CreditReserved | CreditReleased
Event = UserChange | UserErased | CreditChange | CreditRefused
