"""Stricter fields than DRF's: they accept a value only in its documented form.

DRF's fields accept a number as text, a missing value as false, and 1e3, 1_000 or Arabic digits as
numbers.
"""

import re
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.password_validation import (
    MinimumLengthValidator,
    get_default_password_validators,
)
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ..domain import user as rules

# PostgreSQL can't store NUL. A text of white space alone is blank.
TEXT: Final = r"^[^\u0000]*[^\s\u0000\u001c-\u001f][^\u0000]*$"
AMOUNT: Final = r"^[0-9]{1,10}(?:\.[0-9]{1,2})?$"
CENT: Final = Decimal("0.01")


@extend_schema_field({"type": "string", "pattern": TEXT})
class TextField(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "string", "pattern": rules.NAME})
class NameField(TextField):
    """The name of a user. The domain checks its form."""


@extend_schema_field(
    {
        "type": "string",
        "format": "email",
        "description": "In ASCII, with at most 64 characters before the @, none of them a quote.",
    }
)
class AddressField(serializers.EmailField, TextField):
    """An e-mail address. The domain checks its form too."""


@extend_schema_field({"type": "string", "format": "password", "pattern": r"^[^\u0000]*$"})
class PasswordField(TextField):
    """Write-only and not trimmed. The maximum length limits the time that hashing takes."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {
            "write_only": True,
            "trim_whitespace": False,
            "max_length": 128,
            "style": {"input_type": "password", "autocomplete": "new-password"},
        }
        super().__init__(**kwargs)


def _shortest_password() -> int:
    validators = get_default_password_validators()
    lengths = [each.min_length for each in validators if isinstance(each, MinimumLengthValidator)]
    return max(lengths, default=1)


@extend_schema_field(
    {
        "type": "string",
        "format": "password",
        "pattern": rf"^[^\u0000]{{{_shortest_password()},}}$",
        "description": "Not a common password or a number, and not similar to the address.",
    }
)
class NewPasswordField(PasswordField):
    """Django's validators check it: AUTH_PASSWORD_VALIDATORS."""


@extend_schema_field(
    {
        "type": "string",
        "format": "password",
        "pattern": r"^[^\u0000]*$",
        "description": "Your own password, for a new password or a new address.",
    }
)
class CurrentPasswordField(PasswordField):
    """The password of the caller, not of the user that is changed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(help_text="Your own, for a new password or address.", **kwargs)
        self.style["autocomplete"] = "current-password"


class AmountField(serializers.DecimalField):
    """An amount of credit: a string with up to two decimal places, or a JSON number, stored as
    numeric(12, 2)."""

    default_error_messages = {"invalid": 'Expected an amount like "12.30", 0 to 9999999999.99.'}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=12, decimal_places=2, min_value=0, **kwargs)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            self.fail("invalid")
        if not re.fullmatch(AMOUNT, text := str(data)):
            self.fail("invalid")
        return Decimal(text).quantize(CENT)


class AmountSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = AmountField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        text = {"type": "string", "format": "decimal", "pattern": AMOUNT}
        number = {"type": "number", "minimum": 0, "maximum": 9999999999.99, "multipleOf": 0.01}
        return text if direction == "response" else {"anyOf": [text, number]}


class VersionField(serializers.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and not re.fullmatch("[0-9]{1,1000}", data):
            self.fail("invalid")
        return super().to_internal_value(data)


class TimestampField(serializers.DateTimeField):
    """ISO 8601 in UTC with microseconds, the same format as in public events."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M:%S.%fZ", **kwargs)


@extend_schema_field(OpenApiTypes.BOOL)
class YesNoField(serializers.ChoiceField):
    """A boolean that an HTML form can omit; DRF's BooleanField reads a missing value as false."""

    # DRF's message quotes the input, which may not be valid UTF-8.
    default_error_messages = {"invalid_choice": "Expected true or false."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[(True, "Yes"), (False, "No")], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data.capitalize() if isinstance(data, str) else data)
