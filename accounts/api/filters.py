"""The filters of the list of users."""

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters import fields
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field


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


class UTCDateTimeFilter(django_filters.IsoDateTimeFilter):  # type: ignore[misc]
    field_class = UTCDateTimeField


class UserFilter(django_filters.FilterSet):  # type: ignore[misc]
    email = django_filters.CharFilter(method="by_email", max_length=254, label="E-mail address")
    is_active = extend_schema_field(OpenApiTypes.BOOL)(
        django_filters.TypedChoiceFilter(
            choices=[("true", "Yes"), ("false", "No")],
            coerce=lambda text: text == "true",
            empty_value=None,
            label="Is active",
        )
    )
    created_after = UTCDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = UTCDateTimeFilter(field_name="created_at", lookup_expr="lt")

    def by_email(self, users: QuerySet[Any], _name: str, email: str) -> QuerySet[Any]:
        return users.with_email(email)  # type: ignore[attr-defined,no-any-return]
