"""The errors of accounts' commands. `extras` are additional members of the response."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID


class AccountsError(Exception):
    """Base of all errors of accounts."""

    @property
    def extras(self) -> dict[str, Any]:
        return {}


class UserNotFound(AccountsError):
    """The user is unknown, or hidden from the caller. The error is the same in both cases."""

    def __init__(self, user_id: UUID) -> None:
        super().__init__("There is no such user.")
        self.user_id = user_id


class StaleVersion(AccountsError):
    """The user has changed since the caller read it."""

    def __init__(self, *, expected: int, found: int) -> None:
        super().__init__(f"The user is at version {found}, not {expected}. Read the user again.")
        self.expected = expected
        self.found = found

    @property
    def extras(self) -> dict[str, Any]:
        return {"expected_version": self.expected, "current_version": self.found}


class InvalidField(AccountsError):
    """The value of a field has a form that isn't allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    @property
    def extras(self) -> dict[str, Any]:
        return {"errors": {self.field: [str(self)]}}


class EmailTaken(AccountsError):
    """Another user has this e-mail address, possibly in another letter case."""

    def __init__(self, email: str) -> None:
        super().__init__("Another user has this e-mail address.")
        self.email = email

    @property
    def extras(self) -> dict[str, Any]:
        return {"errors": {"email": [str(self)]}}


class CreditLimitBelowReserved(AccountsError):
    """The limit can't be lower than the credit that open orders hold."""

    def __init__(self, *, limit: Decimal, reserved: Decimal) -> None:
        super().__init__(f"The limit {limit:.2f} is below the reserved credit, {reserved:.2f}.")
        self.limit = limit
        self.reserved = reserved

    @property
    def extras(self) -> dict[str, Any]:
        return {"credit_limit": f"{self.limit:.2f}", "credit_reserved": f"{self.reserved:.2f}"}


class StaffOnly(AccountsError):
    """The caller isn't staff and tried to set `fields`, which only staff may set."""

    def __init__(self, *fields: str) -> None:
        super().__init__(f"Only staff may set {', '.join(fields)}.")
        self.fields = fields

    @property
    def extras(self) -> dict[str, Any]:
        return {"fields": list(self.fields)}


class UserInactive(AccountsError):
    """A deactivated user can't change its own data until staff activates the user again."""

    def __init__(self, user_id: UUID) -> None:
        super().__init__("This user is deactivated.")
        self.user_id = user_id


class WrongPassword(AccountsError):
    """The caller has to prove the current password, and it is missing or wrong."""

    def __init__(self) -> None:
        super().__init__("A new password or address needs your current password.")

    @property
    def extras(self) -> dict[str, Any]:
        return {"errors": {"current_password": [str(self)]}}


class WeakPassword(AccountsError):
    """The password validators rejected the password."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(" ".join(messages))
        self.messages = tuple(messages)

    @property
    def extras(self) -> dict[str, Any]:
        return {"errors": {"password": list(self.messages)}}
