"""What is asked of orders, and how an order is answered."""

from typing import Any

from rest_framework import serializers
from uuid_utils.compat import uuid7

from ..domain.errors import InvalidLines
from ..domain.lines import Line, check_lines
from ..domain.order import Status
from .fields import IdempotencyKeyField, LineSerializer, LinesField, UserIdField

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def example_lines() -> Any:
    return [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]


def fresh_key() -> str:
    return str(uuid7())


class PlaceOrderSerializer(serializers.Serializer[Any]):
    """Staff may name the customer; everybody else orders for themselves.

    `idempotency_key` is for HTML forms, which can't send the header: new with each rendering.
    """

    lines = LinesField(initial=example_lines, style={"base_template": "textarea.html", "rows": 6})
    user_id = UserIdField(required=False, allow_null=True, help_text="Staff only.")
    idempotency_key = IdempotencyKeyField(
        required=False,
        label="",
        initial=fresh_key,
        style={"input_type": "hidden"},
    )

    def validate_lines(self, lines: list[dict[str, Any]]) -> tuple[Line, ...]:
        found = tuple(Line(**line) for line in lines)
        try:
            check_lines(found)
        except InvalidLines as exc:
            raise serializers.ValidationError(str(exc)) from exc
        return found


class OrderSerializer(serializers.Serializer[Any]):
    """An order, read from the view or folded from its events."""

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
    """What was sold of one SKU in the confirmed orders of one day."""

    day = serializers.DateField()
    sku = serializers.CharField()
    orders = serializers.IntegerField()
    quantity = serializers.IntegerField()
    revenue = serializers.DecimalField(max_digits=20, decimal_places=2)


class CancelOrderSerializer(serializers.Serializer[Any]):
    """Nothing needs to be said."""


class PastSerializer(serializers.Serializer[Any]):
    """Which past is asked for: a version or a time, not both."""

    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False)
    at = serializers.DateTimeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) > 1:
            raise serializers.ValidationError("Ask for a version or a time, not both.")
        return attrs


class StepSerializer(serializers.Serializer[Any]):
    """One step of an order's story."""

    at = serializers.DateTimeField(format=TIME_FORMAT)
    service = serializers.CharField(help_text="Who did it: orders or accounts.")
    what = serializers.CharField()
    id = serializers.CharField(
        help_text="The event: its version in orders, its id where it is another's."
    )


class StoredEventSerializer(serializers.Serializer[Any]):
    """One event of an order's stream, as it is stored."""

    version = serializers.IntegerField()
    type = serializers.CharField()
    schema_version = serializers.IntegerField()
    data = serializers.DictField()  # type: ignore[assignment]
    causation = serializers.CharField(
        source="metadata.causation",
        default=None,
        allow_null=True,
        help_text="The id of the public event that led to this one.",
    )
    recorded_at = serializers.DateTimeField(format=TIME_FORMAT)
