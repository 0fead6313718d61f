"""The filters of the lists of orders and sales."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import django_filters as filters
from django import forms
from django.core.exceptions import ValidationError
from django_filters import fields
from drf_spectacular.utils import extend_schema_field

from ..domain.order import Status

# Short enough for PostgreSQL, which fails on numbers with a hundred thousand digits.
AMOUNT: Final = r"^-?[0-9]{1,12}(?:\.[0-9]{1,2})?$"
DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


class AmountField(forms.DecimalField):
    """Accepts plain digits. Django's field also accepts 1e3, 1_000 and Arabic digits."""

    def to_python(self, value: Any) -> Decimal | None:  # type: ignore[override]
        if value not in self.empty_values and not re.fullmatch(AMOUNT, value):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


@extend_schema_field({"type": "string", "format": "decimal", "pattern": AMOUNT})
class AmountFilter(filters.NumberFilter):  # type: ignore[misc]
    field_class = AmountField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(field_name="total", **kwargs)


class DayField(forms.DateField):
    """Accepts 2026-11-28. Django's field also accepts 11/28/2026, and with it a wrong day."""

    def to_python(self, value: Any) -> date | None:
        if value not in self.empty_values and not re.fullmatch(DAY, value):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


class DayFilter(filters.DateFilter):  # type: ignore[misc]
    field_class = DayField


class UTCDateTimeField(fields.IsoDateTimeField):  # type: ignore[misc]
    """Converts times to UTC: Python accepts offsets of 16 hours or more, PostgreSQL doesn't.
    Accepts no other digits than 0 to 9, as Python would."""

    def to_python(self, value: Any) -> datetime | None:
        if not str(value).isascii():
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        at: datetime | None = super().to_python(value)
        try:
            return at and at.astimezone(UTC)
        except OverflowError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc


class UTCDateTimeFilter(filters.IsoDateTimeFilter):  # type: ignore[misc]
    field_class = UTCDateTimeField


class OrderFilter(filters.FilterSet):  # type: ignore[misc]
    status = filters.ChoiceFilter(choices=[(status.value, status.value) for status in Status])
    user_id = filters.UUIDFilter(help_text="For staff: other callers see only their own orders.")
    placed_after = UTCDateTimeFilter(field_name="placed_at", lookup_expr="gte")
    placed_before = UTCDateTimeFilter(field_name="placed_at", lookup_expr="lt")
    total_min = AmountFilter(lookup_expr="gte")
    total_max = AmountFilter(lookup_expr="lte")


class SalesFilter(filters.FilterSet):  # type: ignore[misc]
    day = DayFilter(help_text="The UTC day on which the orders were placed.")
    day_from = DayFilter(field_name="day", lookup_expr="gte")
    day_to = DayFilter(field_name="day", lookup_expr="lte")
    sku = filters.CharFilter()
