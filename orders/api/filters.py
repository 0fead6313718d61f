"""What a list of orders can be narrowed to."""

from typing import Any

import django_filters as filters

from ..domain.order import Status


class AmountFilter(filters.NumberFilter):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        # Bounded: PostgreSQL fails on numbers of a hundred thousand digits.
        super().__init__(field_name="total", max_digits=14, decimal_places=2, **kwargs)


class OrderFilter(filters.FilterSet):  # type: ignore[misc]
    status = filters.ChoiceFilter(choices=[(status.value, status.value) for status in Status])
    user_id = filters.UUIDFilter(help_text="Of use to staff: others see only their own.")
    placed_after = filters.IsoDateTimeFilter(field_name="placed_at", lookup_expr="gte")
    placed_before = filters.IsoDateTimeFilter(field_name="placed_at", lookup_expr="lt")
    total_min = AmountFilter(lookup_expr="gte")
    total_max = AmountFilter(lookup_expr="lte")
