"""What a list of orders can be narrowed to."""

from datetime import UTC, datetime
from typing import Any

import django_filters as filters
from django.core.exceptions import ValidationError
from django_filters import fields

from ..domain.order import Status


class AmountFilter(filters.NumberFilter):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        # Bounded: PostgreSQL fails on numbers of a hundred thousand digits.
        super().__init__(field_name="total", max_digits=14, decimal_places=2, **kwargs)


class InstantField(fields.IsoDateTimeField):  # type: ignore[misc]
    """A time in UTC: PostgreSQL refuses other offsets from 16 hours on, which Python knows."""

    def to_python(self, value: Any) -> datetime | None:
        at: datetime | None = super().to_python(value)
        try:
            return at and at.astimezone(UTC)
        except OverflowError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc


class InstantFilter(filters.IsoDateTimeFilter):  # type: ignore[misc]
    field_class = InstantField


class OrderFilter(filters.FilterSet):  # type: ignore[misc]
    status = filters.ChoiceFilter(choices=[(status.value, status.value) for status in Status])
    user_id = filters.UUIDFilter(help_text="Of use to staff: others see only their own.")
    placed_after = InstantFilter(field_name="placed_at", lookup_expr="gte")
    placed_before = InstantFilter(field_name="placed_at", lookup_expr="lt")
    total_min = AmountFilter(lookup_expr="gte")
    total_max = AmountFilter(lookup_expr="lte")


class SalesFilter(filters.FilterSet):  # type: ignore[misc]
    day = filters.DateFilter(help_text="The UTC day on which the orders were placed.")
    day_from = filters.DateFilter(field_name="day", lookup_expr="gte")
    day_to = filters.DateFilter(field_name="day", lookup_expr="lte")
    sku = filters.CharFilter()
