"""The commands of accounts. A command can be refused."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from uuid_utils.compat import uuid7

DEFAULT_CREDIT_LIMIT = Decimal("1000.00")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterUser:
    """`password` is plain text; the handler stores only its hash."""

    name: str
    email: str
    password: str = field(repr=False)
    credit_limit: Decimal = DEFAULT_CREDIT_LIMIT
    is_staff: bool = False
    user_id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportUser(RegisterUser):
    """Registers a user of another application. `password` is the hash that Django stored there."""

    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateUser:
    """Changes the fields that are not None.

    `expected_version` is the version that the caller read; None skips the check. `by_staff`:
    whether staff makes the change, not the user itself. `changed_by`: the user whose token made the
    request. Its `current_password` is needed for a new password or address, because a stolen token
    must not be enough to take the account over. None: the back office.
    """

    user_id: UUID
    expected_version: int | None
    by_staff: bool
    changed_by: UUID | None = None
    current_password: str | None = field(default=None, repr=False)
    name: str | None = None
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    credit_limit: Decimal | None = None
    is_staff: bool | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeactivateUser:
    """For staff. The credit of the user's open orders stays reserved until the orders end."""

    user_id: UUID
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetUser:
    """Erase a user's personal data here and in all consumers. The erasure can't be undone."""

    user_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveCredit:
    order_id: UUID
    user_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCredit:
    """Release the credit that the order holds, if any."""

    order_id: UUID
