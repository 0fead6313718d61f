"""Orders over HTTP: each view checks the caller's rights, then calls a handler or a query."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
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

from outbox.admin import page_url, row_url
from outbox.trace_context import traceparent

from .. import handlers, queries, storyline
from ..domain.commands import CancelOrder, PlaceOrder
from ..domain.errors import IdempotencyInFlight, OrderNotFound
from ..domain.metadata import Metadata
from ..published import represent
from .fields import KEY, IdempotencyKeyField
from .filters import OrderFilter, SalesFilter
from .serializers import (
    CancelOrderSerializer,
    OrderSerializer,
    PastSerializer,
    PlaceOrderSerializer,
    SalesSerializer,
    StoredEventSerializer,
    StorySerializer,
)

KEY_HEADER = "Idempotency-Key"

IDEMPOTENCY_KEY = OpenApiParameter(
    KEY_HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,  # a form has it in its body
    pattern=KEY,
    examples=[OpenApiExample("A key", value="my first order")],
    description="1 to 255 printable ASCII characters. A repeated request with the same key returns "
    "the same response and places nothing.",
)
ORDER_ID = OpenApiParameter("order_id", OpenApiTypes.UUID, OpenApiParameter.PATH)

# The headers of views that read a projection (placement.replicas.views).
PROJECTION_HEADERS = [
    OpenApiParameter(
        "Consistency-Token",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="The token from the response to your last write. The list has this write, or "
        "the status is 503 with Retry-After.",
    ),
    OpenApiParameter(
        "Prefer",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="`stale-ok`: respond without waiting, even if your last write is not included.",
    ),
    OpenApiParameter(
        "Projection-Lag",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="With `stale-ok`: how many seconds the oldest event that is not included has "
        "waited; `unknown` if that can't be determined.",
        response=[200],
    ),
]


PLACING = OpenApiExample(
    "Two teas, for yourself",
    value={"lines": [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]},
    request_only=True,
)


@extend_schema_view(list=extend_schema(parameters=PROJECTION_HEADERS, summary="List orders"))
class OrderViewSet(ListModelMixin, GenericViewSet[Any]):
    """Your orders; all orders if you are staff."""

    reads = "order_view"
    lookup_url_kwarg = "order_id"
    lookup_value_converter = "order_id"
    filterset_class = OrderFilter

    def get_queryset(self) -> QuerySet[Any]:
        caller: Any = self.request.user
        if getattr(self, "swagger_fake_view", False) or caller.is_staff:
            return queries.orders()
        return queries.orders(of_user=caller.id)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        # Chosen by method, not action: the browsable API renders the form of a POST during a GET.
        if self.request.method == "POST":
            return CancelOrderSerializer if self.detail else PlaceOrderSerializer
        return OrderSerializer

    @extend_schema(
        summary="Place an order",
        examples=[PLACING],
        parameters=[IDEMPOTENCY_KEY],
        request=PlaceOrderSerializer,
        responses={
            201: OrderSerializer,
            409: OpenApiResponse(description="A request with this key is in progress"),
            422: OpenApiResponse(description="The key belongs to another request"),
        },
    )
    def create(self, request: Request) -> Response:
        """Place an order. It is pending until the customer's credit is reserved or refused."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        fields = serializer.validated_data
        answer = handlers.place_order_once(
            PlaceOrder(
                order_id=uuid7(),
                user_id=_customer(request, fields.get("user_id")),
                lines=fields["lines"],
            ),
            caller=_caller_name(request),
            key=_idempotency_key(request, fields.get("idempotency_key")),
            metadata=_metadata(request),
        )
        location = reverse("order-detail", args=[answer.order_id], request=request)
        headers = {"Location": location, **_story_link(request, answer.order_id)}
        return Response(answer.body, status=answer.status, headers=headers)

    @extend_schema(
        summary="Read an order",
        parameters=[ORDER_ID, PastSerializer],
        responses=OrderSerializer,
    )
    def retrieve(self, request: Request, order_id: UUID) -> Response:
        """One order: its current state, or its state at `version` or `at`. With both, 404 unless
        the order had this version at this time."""
        order = self._order(order_id)
        past = PastSerializer(data=request.query_params)
        past.is_valid(raise_exception=True)
        if past.validated_data:
            order = queries.order_as_it_was(order_id, **past.validated_data)
        return Response(OrderSerializer(order).data, headers=_story_link(request, order_id))

    @extend_schema(
        summary="Cancel an order",
        parameters=[ORDER_ID],
        request=CancelOrderSerializer,
        responses={
            200: OrderSerializer,
            409: OpenApiResponse(description="The order has ended, or changed concurrently"),
        },
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, order_id: UUID) -> Response:
        """Cancel a pending or confirmed order; 409 if it has ended."""
        self._order(order_id)
        order = handlers.cancel_order(CancelOrder(order_id=order_id), metadata=_metadata(request))
        return Response(represent(order), headers=_story_link(request, order_id))

    @extend_schema(
        summary="Read an order before it is cancelled",
        parameters=[ORDER_ID],
        responses=OrderSerializer,
    )
    @cancel.mapping.get
    def cancel_form(self, request: Request, order_id: UUID) -> Response:
        """The order. In a browser, the page has the form that cancels it."""
        return Response(OrderSerializer(self._order(order_id)).data)

    @extend_schema(
        summary="List the events of an order",
        parameters=[ORDER_ID],
        responses=StoredEventSerializer(many=True),
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def events(self, request: Request, order_id: UUID) -> Response:
        """All events of an order, the oldest first."""
        self._order(order_id)
        return Response(StoredEventSerializer(queries.events(order_id), many=True).data)

    @extend_schema(
        summary="Read the story of an order",
        parameters=[ORDER_ID],
        responses=StorySerializer,
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def story(self, request: Request, order_id: UUID) -> Response:
        """Every step of an order over both services, and what it waits for. Errors of parked events
        are shown to staff."""
        self._order(order_id)
        caller: Any = request.user
        story = storyline.story(order_id, for_staff=caller.is_staff)
        if story is None:
            raise OrderNotFound(order_id)
        page = reverse("pages:story", args=[order_id], request=request)
        link = f'<{page}>; rel="alternate"; type="text/html"'
        return Response(StorySerializer(story).data, headers={"Link": link})

    def links(self, data: Any) -> list[tuple[str, str]]:
        """The related pages of the browsable API."""
        if not self.detail:
            shown = data.get("results", [data])
            return [(f"{each['status']} {each['id']}", _url(each["id"])) for each in shown]
        order_id: UUID = self.kwargs["order_id"]
        found: list[tuple[str, str | None]] = [
            ("Order", _url(order_id)),
            ("Events", _url(order_id, "events")),
            ("Story", _url(order_id, "story")),
            ("Cancel", _url(order_id, "cancel")),
        ]
        if "user_id" in data:
            found.append(("Customer", page_url("accounts", f"/api/users/{data['user_id']}/")))
        if self.request.user.is_staff:
            found.append(("Story as a page", reverse("pages:story", args=[order_id])))
            found.append(("Admin", row_url("orders", "orderview", order_id)))
        return [(text, url) for text, url in found if url]

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, IdempotencyInFlight):
            response["Retry-After"] = "1"
        return response

    def _order(self, order_id: UUID) -> Any:
        """Return the order. Raises OrderNotFound if it is unknown or the caller may not see it."""
        caller: Any = self.request.user
        order = queries.order(order_id)
        if not caller.is_staff and order.user_id != caller.id:
            raise OrderNotFound(order_id)
        return order


@extend_schema_view(
    list=extend_schema(parameters=PROJECTION_HEADERS, summary="List the sales per day and SKU")
)
class SalesViewSet(ListModelMixin, GenericViewSet[Any]):
    """Sales per day and SKU. For staff."""

    reads = "sales"
    permission_classes = [IsAdminUser]
    filterset_class = SalesFilter
    serializer_class = SalesSerializer

    def get_queryset(self) -> QuerySet[Any]:
        return queries.sales()


def _story_link(request: Request, order_id: UUID) -> dict[str, str]:
    """The header that links an order to its story (RFC 8288)."""
    story = reverse("order-story", args=[order_id], request=request)
    return {"Link": f'<{story}>; rel="describedby"; title="story"'}


def _url(order_id: Any, page: str = "detail") -> str:
    return str(reverse(f"order-{page}", args=[order_id]))


def _customer(request: Request, named: UUID | None) -> UUID:
    """The customer of a new order. Raises PermissionDenied or ValidationError."""
    caller: Any = request.user
    if named is not None and named != caller.id and not caller.is_staff:
        raise PermissionDenied("Only staff may order for other customers.")
    user_id: UUID | None = named or caller.id
    if user_id is None:
        raise ValidationError({"user_id": ["Name the customer: you have no customer account."]})
    return user_id


def _idempotency_key(request: Request, in_body: str | None) -> str:
    """Return the key in the header, else the key in the body. Raises ValidationError."""
    key = request.headers.get(KEY_HEADER, in_body)
    if key is None:
        raise ValidationError({KEY_HEADER: ["This header is required."]})
    try:
        return str(IdempotencyKeyField().run_validation(key))
    except ValidationError as exc:
        raise ValidationError({KEY_HEADER: exc.detail}) from exc


def _caller_name(request: Request) -> str:
    """The owner of idempotency keys, and the actor in metadata."""
    caller: Any = request.user
    return str(caller.id) if caller.id else f"staff {caller}"


def _metadata(request: Request) -> Metadata:
    return Metadata(actor=_caller_name(request), traceparent=traceparent.get() or None)
