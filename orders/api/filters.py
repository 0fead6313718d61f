"""The filters of the lists of orders and sales."""

from datetime import UTC, datetime
from typing import Any

import django_filters as filters
from django.core.exceptions import ValidationError
from django_filters import fields

from ..domain.order import Status


class AmountFilter(filters.NumberFilter):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        # A limit is needed: PostgreSQL fails on numbers with a hundred thousand digits.
        super().__init__(field_name="total", max_digits=14, decimal_places=2, **kwargs)


class UTCDateTimeField(fields.IsoDateTimeField):  # type: ignore[misc]
    """Converts times to UTC: Python accepts offsets of 16 hours or more, PostgreSQL doesn't."""

    def to_python(self, value: Any) -> datetime | None:
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
    day = filters.DateFilter(help_text="The UTC day on which the orders were placed.")
    day_from = filters.DateFilter(field_name="day", lookup_expr="gte")
    day_to = filters.DateFilter(field_name="day", lookup_expr="lte")
    sku = filters.CharFilter()
