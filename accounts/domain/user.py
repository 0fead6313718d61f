"""The rules for users: they turn a state and a command into an event or an error."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from unicodedata import normalize

from .commands import RegisterUser, UpdateUser
from .errors import CreditLimitBelowReserved, InvalidField, StaffOnly, StaleVersion, UserInactive
from .events import RefusalReason, UserDeactivated, UserRegistered, UserUpdated
from .state import UserState

ZERO = Decimal("0.00")
OWN_FIELDS = ("name", "email")
PROVEN_FIELDS = {"email", "password"}  # whose change needs the current password
STAFF_FIELDS = ("credit_limit", "is_staff", "is_active")

# Control characters, line separators, and characters that change the direction of the text around
# a name. The invisible characters are those that Unicode lets a font ignore.
_CONTROL: Final = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_INVISIBLE: Final = (
    r"\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
NAME: Final = rf"^[^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*$"
# One form for each mailbox: no quotes, no IP address, and no domain in Unicode, which would be a
# second form of its A-labels.
_ATOM: Final = r"[-!#$%&'*+/=?^_`{|}~0-9A-Za-z]+"
_LABEL: Final = "[0-9A-Za-z](?:[-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
_TOP: Final = "[A-Za-z][-0-9A-Za-z]{0,61}[0-9A-Za-z]"
EMAIL: Final = rf"^(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:(?:{_LABEL}\.)+{_TOP}|localhost)$"


def register(command: RegisterUser, *, now: datetime) -> UserRegistered:
    """Raises InvalidField."""
    check_form({"name": command.name, "email": command.email})
    return UserRegistered(
        user=UserState(
            id=command.user_id,
            name=command.name,
            email=command.email,
            credit_limit=two_places(command.credit_limit),
            credit_reserved=ZERO,
            is_staff=command.is_staff,
            is_active=True,
            version=1,
            created_at=now,
            updated_at=now,
        )
    )


def revise(
    user: UserState, command: UpdateUser, *, now: datetime
) -> UserUpdated | UserDeactivated | None:
    """Return the event of this change; None if nothing would change.

    A field with its current value is no change, so a client may send all fields that it read.
    A name or an address that doesn't change may have a form that isn't allowed any more.
    Raises StaleVersion, UserInactive, StaffOnly, InvalidField or CreditLimitBelowReserved.
    """
    if command.expected_version not in (None, user.version):
        raise StaleVersion(expected=command.expected_version, found=user.version)
    if not (command.by_staff or user.is_active):
        raise UserInactive(user.id)
    changes = _changes(user, command)
    if not command.by_staff and (reserved := [f for f in STAFF_FIELDS if f in changes]):
        raise StaffOnly(*reserved)
    check_form(changes)
    limit = changes.get("credit_limit", user.credit_limit)
    if limit < user.credit_reserved:
        raise CreditLimitBelowReserved(limit=limit, reserved=user.credit_reserved)
    changed = (*changes, *(["password"] if command.password is not None else []))
    if not changed:
        return None
    after = replace(user, **changes, version=user.version + 1, updated_at=max(now, user.updated_at))
    if user.is_active and not after.is_active:
        return UserDeactivated(user=after, changed=changed)
    return UserUpdated(user=after, changed=changed)


def refusal(user: UserState | None, *, amount: Decimal) -> RefusalReason | None:
    """Return why `amount` can't be reserved for this user; None if the amount can be reserved."""
    if user is None:
        return RefusalReason.UNKNOWN_USER
    if not user.is_active:
        return RefusalReason.INACTIVE_USER
    if user.credit_reserved + amount > user.credit_limit:
        return RefusalReason.INSUFFICIENT_CREDIT
    return None


def check_form(fields: Mapping[str, Any]) -> None:
    """Check the name and the address among these fields. Raises InvalidField."""
    if "name" in fields and not re.fullmatch(NAME, fields["name"]):
        raise InvalidField(
            "name",
            "A name has a visible character, and no control character or direction of text.",
        )
    if "email" in fields and not re.fullmatch(EMAIL, fields["email"]):
        raise InvalidField(
            "email",
            "Expected an address in ASCII with at most 64 characters before the @; a domain in"
            ' another script has the form "xn--bcher-kva.example".',
        )


def stored_password(password: str) -> str:
    """Return the form that is hashed: systems differ in whether they compose a letter's accent."""
    return normalize("NFC", password)


def two_places(amount: Decimal) -> Decimal:
    """Return the amount in its stored form: 5 becomes 5.00, and -0 becomes 0.00."""
    return amount.quantize(ZERO) + 0


def _changes(user: UserState, command: UpdateUser) -> dict[str, Any]:
    requested = {name: getattr(command, name) for name in OWN_FIELDS + STAFF_FIELDS}
    if requested["credit_limit"] is not None:
        requested["credit_limit"] = two_places(requested["credit_limit"])
    return {
        name: value
        for name, value in requested.items()
        if value is not None and value != getattr(user, name)
    }
