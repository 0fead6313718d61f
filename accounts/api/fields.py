"""Stricter fields than DRF's: a number isn't text, and a missing value isn't false."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


class TextField(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class AddressField(serializers.EmailField, TextField):
    """An e-mail address."""


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


class AmountField(serializers.DecimalField):
    """An amount of credit: a string with two decimal places, stored as numeric(12, 2)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=12, decimal_places=2, min_value=0, **kwargs)


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
