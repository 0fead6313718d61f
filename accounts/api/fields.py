"""Fields stricter than DRF's: a JSON number is no text, an absent answer is no 'no'."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


class TextField(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class AddressField(serializers.EmailField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class PasswordField(TextField):
    """Write-only, taken as it is typed. The limit keeps hashing from being made expensive."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {
            "write_only": True,
            "trim_whitespace": False,
            "max_length": 128,
            "style": {"input_type": "password", "autocomplete": "new-password"},
        }
        super().__init__(**kwargs)


class AmountField(serializers.DecimalField):
    """An amount of credit: a text with two places, as numeric(12, 2) keeps it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=12, decimal_places=2, min_value=0, **kwargs)


class InstantField(serializers.DateTimeField):
    """ISO 8601 in UTC with microseconds, exactly as the public events have it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M:%S.%fZ", **kwargs)


@extend_schema_field(OpenApiTypes.BOOL)
class YesNoField(serializers.ChoiceField):
    """A boolean that an HTML form can leave out: a missing checkbox would read as false."""

    # DRF's message quotes the input, which may hold what UTF-8 can't write.
    default_error_messages = {"invalid_choice": "Give true or false."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[(True, "Yes"), (False, "No")], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data.capitalize() if isinstance(data, str) else data)
