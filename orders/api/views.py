"""Orders over HTTP: who may see and do what; everything else is handlers and queries."""

import re
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet
from uuid_utils.compat import uuid7

from .. import handlers, queries
from ..domain.commands import CancelOrder, PlaceOrder
from ..domain.errors import IdempotencyInFlight, OrderNotFound
from ..domain.metadata import Metadata
from ..published import represent
from .fields import IdempotencyKeyField
from .filters import OrderFilter, SalesFilter
from .serializers import (
    CancelOrderSerializer,
    OrderSerializer,
    PastSerializer,
    PlaceOrderSerializer,
    SalesSerializer,
    StepSerializer,
    StoredEventSerializer,
)

KEY_HEADER = "Idempotency-Key"
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context

IDEMPOTENCY_KEY = OpenApiParameter(
    KEY_HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 printable ASCII characters. The same key and request again get the "
    "same answer and place nothing. Required, unless `idempotency_key` is in the body.",
)
ORDER_ID = OpenApiParameter("order_id", OpenApiTypes.UUID, OpenApiParameter.PATH)


# What whoever reads a projection may say, and be told (placement.replicas.views).
OF_PROJECTIONS = [
    OpenApiParameter(
        "Consistency-Token",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="As your last write was answered with: the list has what you wrote, or the "
        "answer is 503 with Retry-After.",
    ),
    OpenApiParameter(
        "Prefer",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="`stale-ok`: answer at once, with what there is.",
    ),
    OpenApiParameter(
        "Projection-Lag",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="With `stale-ok`: for how many seconds the oldest event has waited that isn't "
        "shown yet; `unknown` if that can't be told.",
        response=[200],
    ),
]


@extend_schema_view(list=extend_schema(parameters=OF_PROJECTIONS))
class OrderViewSet(ListModelMixin, GenericViewSet[Any]):
    """Orders: yours; all of them if you are staff."""

    reads = "order_view"
    lookup_url_kwarg = "order_id"
    lookup_value_converter = "uuid"
    filterset_class = OrderFilter

    def get_queryset(self) -> QuerySet[Any]:
        caller: Any = self.request.user
        if getattr(self, "swagger_fake_view", False) or caller.is_staff:
            return queries.orders()
        return queries.orders(of_user=caller.id)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        # By method too: the browsable API asks for the form of a POST while it answers a GET.
        if self.request.method == "POST":
            return CancelOrderSerializer if self.detail else PlaceOrderSerializer
        return OrderSerializer

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=PlaceOrderSerializer,
        responses={201: OrderSerializer},
    )
    def create(self, request: Request) -> Response:
        """Place an order. It is pending until the customer's credit is reserved or refused."""
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        answer = handlers.place_order_once(
            PlaceOrder(
                order_id=uuid7(),
                user_id=_customer(request, asked.validated_data.get("user_id")),
                lines=asked.validated_data["lines"],
            ),
            caller=_name(request),
            key=_idempotency_key(request, asked.validated_data.get("idempotency_key")),
            metadata=_metadata(request),
        )
        location = reverse("order-detail", args=[answer.order_id])
        return Response(answer.body, status=answer.status, headers={"Location": location})

    @extend_schema(parameters=[ORDER_ID, PastSerializer], responses=OrderSerializer)
    def retrieve(self, request: Request, order_id: UUID) -> Response:
        """One order, as it is; with `version` or `at`, as it was then."""
        order = self._order(order_id)
        past = PastSerializer(data=request.query_params)
        past.is_valid(raise_exception=True)
        if past.validated_data:
            order = queries.order_as_it_was(order_id, **past.validated_data)
        return Response(OrderSerializer(order).data)

    @extend_schema(parameters=[ORDER_ID], request=CancelOrderSerializer, responses=OrderSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, order_id: UUID) -> Response:
        """Cancel an order that is pending or confirmed. One that has ended answers 409."""
        self._order(order_id)
        order = handlers.cancel_order(CancelOrder(order_id=order_id), metadata=_metadata(request))
        return Response(represent(order))

    @extend_schema(parameters=[ORDER_ID], responses=StoredEventSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def events(self, request: Request, order_id: UUID) -> Response:
        """All that happened to an order, from the first event on."""
        self._order(order_id)
        return Response(StoredEventSerializer(queries.events(order_id), many=True).data)

    @extend_schema(parameters=[ORDER_ID], responses=StepSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def story(self, request: Request, order_id: UUID) -> Response:
        """What happened to an order, on both sides, in sentences."""
        self._order(order_id)
        return Response(StepSerializer(queries.story(order_id), many=True).data)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, IdempotencyInFlight):
            response["Retry-After"] = "1"
        return response

    def _order(self, order_id: UUID) -> Any:
        """The order, if the caller may know of it."""
        caller: Any = self.request.user
        order = queries.order(order_id)
        if not caller.is_staff and order.user_id != caller.id:
            raise OrderNotFound(order_id)
        return order


@extend_schema_view(list=extend_schema(parameters=OF_PROJECTIONS))
class SalesViewSet(ListModelMixin, GenericViewSet[Any]):
    """What is sold per day and SKU. For staff."""

    reads = "sales"
    permission_classes = [IsAdminUser]
    filterset_class = SalesFilter
    serializer_class = SalesSerializer

    def get_queryset(self) -> QuerySet[Any]:
        return queries.sales()


def _customer(request: Request, named: UUID | None) -> UUID:
    """Whom the order is for. Raises PermissionDenied or ValidationError."""
    caller: Any = request.user
    if named is not None and named != caller.id and not caller.is_staff:
        raise PermissionDenied("Only staff may order for somebody else.")
    user_id: UUID | None = named or caller.id
    if user_id is None:
        raise ValidationError({"user_id": ["Name the customer: you have no account here."]})
    return user_id


def _idempotency_key(request: Request, in_body: str | None) -> str:
    """The header's key, or the form's. Raises ValidationError."""
    key = request.headers.get(KEY_HEADER, in_body)
    if key is None:
        raise ValidationError({KEY_HEADER: ["This header is required."]})
    try:
        return str(IdempotencyKeyField().run_validation(key))
    except ValidationError as exc:
        raise ValidationError({KEY_HEADER: exc.detail}) from exc


def _name(request: Request) -> str:
    """Whose idempotency keys these are."""
    caller: Any = request.user
    return str(caller.id) if caller.id else f"staff {caller}"


def _metadata(request: Request) -> Metadata:
    trace = request.headers.get("traceparent", "")
    return Metadata(
        actor=_name(request), traceparent=trace if TRACEPARENT.fullmatch(trace) else None
    )
