"""Public events of accounts: the contract with its consumers (tests/contracts/accounts)."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from outbox.envelope import Envelope

from .domain.events import (
    CreditRefused,
    CreditReleased,
    CreditReserved,
    Event,
    UserDeactivated,
    UserErased,
    UserRegistered,
    UserUpdated,
)
from .domain.state import UserState

TYPES: dict[type[Event], str] = {
    UserRegistered: "accounts.user.registered.v1",
    UserUpdated: "accounts.user.updated.v1",
    UserDeactivated: "accounts.user.deactivated.v1",
    UserErased: "accounts.user.erased.v1",
    CreditReserved: "accounts.credit.reserved.v1",
    CreditRefused: "accounts.credit.refused.v1",
    CreditReleased: "accounts.credit.released.v1",
}


def envelope(event: Event) -> Envelope:
    """Return the public event. The key is the user's id, the sequence is the user's version."""
    if isinstance(event, CreditRefused):
        version = event.user.version if event.user else 0
        user_id, time = event.user_id, event.refused_at
    elif isinstance(event, UserErased):
        user_id, version, time = event.user_id, event.version, event.erased_at
    else:
        user_id, version, time = event.user.id, event.user.version, event.user.updated_at
    return Envelope(
        type=TYPES[type(event)],
        subject=str(user_id),
        partitionkey=str(user_id),
        sequence=version,
        data=_data(event),
        time=time,
    )


def representation(user: UserState) -> dict[str, Any]:
    """The user as JSON, in the API and in events."""
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "credit_limit": amount(user.credit_limit),
        "credit_reserved": amount(user.credit_reserved),
        "is_active": user.is_active,
        "version": user.version,
        "created_at": instant(user.created_at),
        "updated_at": instant(user.updated_at),
    }


def amount(value: Decimal) -> str:
    return f"{value:.2f}"


def instant(value: datetime) -> str:
    """ISO 8601 in UTC with microseconds, so the strings sort by time."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _data(event: Event) -> dict[str, Any]:
    if isinstance(event, UserRegistered | UserUpdated | UserDeactivated):
        return representation(event.user)
    if isinstance(event, UserErased):
        return {"id": str(event.user_id), "version": event.version}
    if isinstance(event, CreditRefused):
        return _credit(event, event.user, str(event.user_id), reason=event.reason.value)
    return _credit(event, event.user, str(event.user.id), reason="")


def _credit(
    event: CreditReserved | CreditReleased | CreditRefused,
    user: UserState | None,
    user_id: str,
    *,
    reason: str,
) -> dict[str, Any]:
    return {
        "order_id": str(event.order_id),
        "user_id": user_id,
        "amount": amount(event.amount),
        "reason": reason,
        "credit_limit": amount(user.credit_limit) if user else "0.00",
        "credit_reserved": amount(user.credit_reserved) if user else "0.00",
        "version": user.version if user else 0,
    }
