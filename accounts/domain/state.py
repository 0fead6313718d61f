"""The state of a user. The rules read it, and the events contain it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class UserState:
    """A user at one version, without the password, so that no event or response can leak it.

    Invariant: 0 <= credit_reserved <= credit_limit, both with two decimal places.
    """

    id: UUID
    name: str
    email: str
    credit_limit: Decimal
    credit_reserved: Decimal
    is_staff: bool
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime
