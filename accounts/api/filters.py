"""What a list of users can be narrowed by."""

from typing import Any

import django_filters
from django.db.models import QuerySet

from .. import queries


class UserFilter(django_filters.FilterSet):  # type: ignore[misc]
    email = django_filters.CharFilter(method="by_email", max_length=254, label="E-mail address")
    is_active = django_filters.TypedChoiceFilter(
        choices=[("true", "Yes"), ("false", "No")],
        coerce=lambda text: text == "true",
        empty_value=None,
        label="Is active",
    )
    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    def by_email(self, users: QuerySet[Any], _name: str, email: str) -> QuerySet[Any]:
        return queries.with_email(users, email)
