"""What accounts may be asked to do. Imperative; a command can be refused."""

from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from uuid_utils.compat import uuid7

DEFAULT_CREDIT_LIMIT = Decimal("1000.00")
MAX_CREDIT_LIMIT = Decimal("9999999999.99")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterUser:
    """`password` is what the person typed; the handler keeps only its hash."""

    name: str
    email: str
    password: str = field(repr=False)
    credit_limit: Decimal = DEFAULT_CREDIT_LIMIT
    is_staff: bool = False
    user_id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateUser:
    """Change what is not None.

    `expected_version` is the version that the asker saw; None means whichever it is by now.
    `by_staff` says whose authority the change has: the user's own, or the staff's.
    """

    user_id: UUID
    expected_version: int | None
    by_staff: bool
    name: str | None = None
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    credit_limit: Decimal | None = None
    is_staff: bool | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeactivateUser:
    """An act of the staff. What the user's orders have reserved stays reserved until they end."""

    user_id: UUID
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetUser:
    """Erase what is personal, here and wherever accounts' events went. It can't be undone."""

    user_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveCredit:
    order_id: UUID
    user_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCredit:
    """Release what the order has reserved, whatever that was."""

    order_id: UUID
