"""The formats of orders' HTTP bodies and query parameters."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from uuid_utils.compat import uuid7

from ..domain.errors import InvalidLines
from ..domain.lines import Line, check_lines
from ..domain.order import Status
from ..steps import StepState
from .fields import (
    CustomerField,
    IdempotencyKeyField,
    LineSerializer,
    LinesField,
    MomentField,
    VersionField,
)

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def example_lines() -> Any:
    return [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]


def fresh_key() -> str:
    return str(uuid7())


@extend_schema_serializer(exclude_fields=["idempotency_key"])
class PlaceOrderSerializer(serializers.Serializer[Any]):
    """Staff may set the customer; other callers order for themselves.

    `idempotency_key` is for HTML forms, which can't send the header. Each rendering has a new key.
    """

    lines = LinesField(initial=example_lines, style={"base_template": "textarea.html", "rows": 6})
    user_id = CustomerField(
        required=False,
        allow_null=True,
        help_text="The customer's id. Only staff may set it.",
        style={"template": "orders/customer_field.html", "list": "customers"},
    )
    idempotency_key = IdempotencyKeyField(
        required=False, label="", initial=fresh_key, style={"input_type": "hidden"}
    )

    def validate_lines(self, lines: list[dict[str, Any]]) -> tuple[Line, ...]:
        found = tuple(Line(**line) for line in lines)
        try:
            check_lines(found)
        except InvalidLines as exc:
            raise serializers.ValidationError(str(exc)) from exc
        return found


class OrderSerializer(serializers.Serializer[Any]):
    """An order, from the view or folded from its events."""

    id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[status.value for status in Status])
    lines = LineSerializer(many=True)
    total = serializers.DecimalField(max_digits=12, decimal_places=2)
    reason = serializers.CharField(allow_blank=True)
    version = serializers.IntegerField()
    placed_at = serializers.DateTimeField(format=TIME_FORMAT)
    updated_at = serializers.DateTimeField(format=TIME_FORMAT)


class SalesSerializer(serializers.Serializer[Any]):
    """The sales of one SKU in the confirmed orders of one day."""

    day = serializers.DateField()
    sku = serializers.CharField()
    orders = serializers.IntegerField()
    quantity = serializers.IntegerField()
    revenue = serializers.DecimalField(max_digits=20, decimal_places=2)


class CancelOrderSerializer(serializers.Serializer[Any]):
    """A request without fields."""


class PastSerializer(serializers.Serializer[Any]):
    """Selects an earlier version, a time, or a version that the order had at a time."""

    version = VersionField(required=False)
    at = MomentField(required=False)


class StepSerializer(serializers.Serializer[Any]):
    """One step of an event, or of the views as they are now."""

    kind = serializers.CharField(
        help_text="request, event, row, tick, entry, consumer, view, cache or credit"
    )
    service = serializers.CharField(help_text="The service of this step: orders or accounts.")
    what = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in StepState])
    at = serializers.DateTimeField(
        format=TIME_FORMAT, allow_null=True, help_text="Null if no row holds the time."
    )
    id = serializers.CharField(
        help_text="What the step wrote: a version, a row, a tick or an entry. For a consumer, the "
        "partition and its position."
    )
    why = serializers.CharField(help_text="Why the step isn't done; empty if it is done.")


class ChapterSerializer(serializers.Serializer[Any]):
    """One event, and its way to every consumer."""

    service = serializers.CharField()
    type = serializers.CharField()
    what = serializers.CharField()
    at = serializers.DateTimeField(format=TIME_FORMAT, allow_null=True)
    id = serializers.CharField(
        help_text="The version of an event of orders, or the id of a public event of accounts."
    )
    steps = StepSerializer(many=True)


class StorySerializer(serializers.Serializer[Any]):
    """The story of an order over both services."""

    order_id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[status.value for status in Status])
    version = serializers.IntegerField()
    complete = serializers.BooleanField(help_text="Whether every step is done.")
    away = serializers.CharField(
        help_text="Why the part of accounts is missing; empty if it is here."
    )
    waits = StepSerializer(many=True, help_text="The steps that are not done.")
    chapters = ChapterSerializer(many=True)
    now = StepSerializer(many=True, help_text="The credit, the views and the cache.")


class StoredEventSerializer(serializers.Serializer[Any]):
    """One event of an order's stream, as stored."""

    version = serializers.IntegerField()
    type = serializers.CharField()
    schema_version = serializers.IntegerField()
    data = serializers.DictField()  # type: ignore[assignment]
    causation = serializers.CharField(
        source="metadata.causation",
        default=None,
        allow_null=True,
        help_text="The id of the public event that caused this event.",
    )
    recorded_at = serializers.DateTimeField(format=TIME_FORMAT)
