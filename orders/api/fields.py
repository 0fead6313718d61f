"""Fields that accept a value only in its documented form.

DRF's fields accept more: True or "5" as a quantity, Arabic digits or 1E+3 as a price, 1 as a user
id. Money needs strict input.
"""

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .. import queries
from ..domain.lines import MAX_LINES, MAX_QUANTITY, MAX_SKU_LENGTH, is_sku

PRICE: Final = r"^[0-9]{1,7}(?:\.[0-9]{1,2})?$"
_PRINTABLE: Final = r"\p{L}\p{M}\p{N}\p{P}\p{S}"
SKU: Final = (
    rf"^[{_PRINTABLE}](?:[ {_PRINTABLE}]{{0,{MAX_SKU_LENGTH - 2}}}[{_PRINTABLE}])?$"  # as `is_sku`
)
MAX_KEY_LENGTH = 255  # characters
KEY: Final = rf"^[ -~]{{1,{MAX_KEY_LENGTH}}}$"


@extend_schema_field({"type": "string", "pattern": SKU})
class SkuField(serializers.CharField):
    default_error_messages = {"invalid": f"Expected 1 to {MAX_SKU_LENGTH} printable characters."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, max_length=MAX_SKU_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not is_sku(data):
            self.fail("invalid")
        return data


class QuantityField(serializers.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=MAX_QUANTITY, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:  # isinstance(True, int) is true
            self.fail("invalid")
        return data


class PriceField(serializers.DecimalField):
    """A price: a string or a JSON number. A number is read in its shortest decimal form."""

    default_error_messages = {"invalid": 'Expected an amount like "12.30", 0.01 to 9999999.99.'}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=9, decimal_places=2, min_value=Decimal("0.01"), **kwargs)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            self.fail("invalid")
        if not re.fullmatch(PRICE, text := str(data)):
            self.fail("invalid")
        return Decimal(text).quantize(Decimal("0.01"))


class PriceSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = PriceField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        positive = PRICE.replace("^", "^(?=.*[1-9])")
        text = {"type": "string", "format": "decimal", "pattern": positive}
        number = {"type": "number", "minimum": 0.01, "maximum": 9999999.99, "multipleOf": 0.01}
        return text if direction == "response" else {"anyOf": [text, number]}


class UserIdField(serializers.UUIDField):
    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return UUID(str(super().to_internal_value(data)))


class CustomerField(UserIdField):
    """The form of this field suggests the newest customers to staff."""

    def suggestions(self) -> list[Any]:
        return queries.newest_customers() if self.context["request"].user.is_staff else []


class VersionField(serializers.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**31 - 1, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch("[0-9]{1,1000}", str(data)):
            self.fail("invalid")
        return super().to_internal_value(data)


class MomentField(serializers.DateTimeField):
    def to_internal_value(self, value: Any) -> datetime:
        if not str(value).isascii():
            self.fail("invalid", format="YYYY-MM-DDThh:mm:ssZ")
        return super().to_internal_value(value)


class IdempotencyKeyField(serializers.CharField):
    default_error_messages = {
        "invalid": f"Expected 1 to {MAX_KEY_LENGTH} printable ASCII characters."
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not 1 <= len(data) <= MAX_KEY_LENGTH:
            self.fail("invalid")
        if not (data.isascii() and data.isprintable()):
            self.fail("invalid")
        return data


class LineSerializer(serializers.Serializer[Any]):
    sku = SkuField()
    quantity = QuantityField()
    unit_price = PriceField()


class LinesField(serializers.JSONField):
    """A list of lines; in an HTML form, the same list as JSON in a text area."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        if getattr(data, "is_json_string", False):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError):
                self.fail("invalid")
        lines: serializers.ListSerializer[Any] = serializers.ListSerializer(
            child=LineSerializer(), data=data, allow_empty=False, max_length=MAX_LINES
        )
        lines.is_valid(raise_exception=True)
        return list(lines.validated_data)


class LinesSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = LinesField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        line = auto_schema.resolve_serializer(LineSerializer, direction)
        return {"type": "array", "items": line.ref, "minItems": 1, "maxItems": MAX_LINES}
