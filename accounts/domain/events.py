"""What happened in accounts. Past tense; facts are never refused."""

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
    """`changed` names the fields, a password among them, of which no value is ever kept here."""

    user: UserState
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeactivated:
    user: UserState
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserErased:
    """Nobody knows any more who the user was; or there never was one, and whoever has a copy has
    to drop it. `version` is the user's last, 0 for one that accounts doesn't know."""

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
    """Nothing about the user changed, so its version didn't move. `user` is None if unknown."""

    user: UserState | None
    user_id: UUID
    order_id: UUID
    amount: Decimal
    reason: RefusalReason
    refused_at: datetime


UserChange = UserRegistered | UserUpdated | UserDeactivated
CreditChange = CreditReserved | CreditReleased
Event = UserChange | UserErased | CreditChange | CreditRefused
