"""The back office of orders. It calls the handlers, so that an event announces each change."""

import json
from copy import copy
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from uuid_utils.compat import uuid7

from outbox import admin as outbox

from . import queries
from .domain.codec import read_lines
from .domain.commands import CancelOrder, PlaceOrder
from .domain.errors import IdempotencyKeyReused, InvalidLines, OrderError
from .domain.lines import Line, check_lines
from .domain.metadata import Metadata
from .handlers import cancel_order, place_order_once
from .models import (
    CountedOrder,
    CustomerView,
    IdempotentRequest,
    KeyCopy,
    OrderDeadline,
    OrderView,
    OutboxEvent,
    ParkedEvent,
    Position,
    Sales,
    State,
    StoredEvent,
    Subscription,
    Tick,
)

FORM = ("user_id", "order_lines", "idempotency_key")
SHOWN = (
    "id", "customer_name", "status", "content", "total", "reason", "version", "placed_at",
    "updated_at", "related",
)  # fmt: skip
EXAMPLE_LINES = [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]


def fresh_key() -> str:
    return str(uuid7())


class CustomerInput(forms.TextInput):
    """An input for a customer's id that suggests the newest customers by name."""

    template_name = "orders/customer_input.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["attrs"]["list"] = f"{name}-suggestions"
        return context | {"customers": queries.newest_customers()}


class PlaceOrderForm(outbox.CommandForm):
    """Each rendering has a new `idempotency_key`, so a form that is sent twice places one order."""

    order_lines = forms.CharField(
        label="Lines",
        widget=forms.Textarea(attrs={"rows": 8, "cols": 80}),
        initial=lambda: json.dumps(EXAMPLE_LINES, indent=1),
        help_text="A JSON list of lines, each with sku, quantity and unit_price.",
    )
    idempotency_key = forms.CharField(
        widget=forms.HiddenInput, initial=fresh_key, max_length=255, label=""
    )

    class Meta:
        model = OrderView
        fields = ("user_id",)
        labels = {"user_id": "Customer"}
        widgets = {"user_id": CustomerInput(attrs={"size": 40})}
        help_texts = {
            "user_id": "The id. Type a part of a name or an address to choose among the newest."
        }

    def clean_order_lines(self) -> tuple[Line, ...]:
        try:
            lines = read_lines(json.loads(self.cleaned_data["order_lines"]))
            check_lines(lines)
        except InvalidLines as exc:
            raise forms.ValidationError(str(exc)) from exc
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise forms.ValidationError(f"Not a list of lines: {exc!r:.200}") from exc
        return lines

    def clean(self) -> dict[str, Any] | None:
        if isinstance(self.refusal, IdempotencyKeyReused):
            typed: Any = copy(self.data)
            typed["idempotency_key"] = fresh_key()
            self.data = typed
        return super().clean()


@admin.register(OrderView)
class OrderAdmin(outbox.CommandAdmin):
    """Orders from the projection. Staff can place and cancel orders here, but can't edit them."""

    explanation = "Orders after their latest event. You can place and cancel orders here."
    object_history_template = "outbox/object_history.html"
    form = PlaceOrderForm
    refusals = OrderError
    list_display = (
        "id", "customer_name", "status", "total", "reason", "version", "placed_at", "story",
    )  # fmt: skip
    list_filter = ("status",)
    search_fields = ("id", "user_id")
    ordering = ("-id",)
    actions = ("cancel",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderView]:
        return queries.orders_with_customers()

    @admin.display(description="customer")
    def customer_name(self, order: Any) -> str:
        return customer_link(order.user_id, order.customer_name)

    @admin.display
    def story(self, order: OrderView) -> str:
        return outbox.link("story", story_url(order.pk))

    @admin.display(description="lines")
    def content(self, order: OrderView) -> str:
        return outbox.readable(order.lines)

    @admin.display(description="See also")
    def related(self, order: OrderView) -> str:
        return order_links(order.pk)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return FORM if obj is None else SHOWN

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else SHOWN

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"events_title": "Events", "events": _events(object_id)}
        return super().history_view(request, object_id, context | (extra_context or {}))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("orders.change_orderview"))

    def save_model(self, request: HttpRequest, obj: OrderView, form: Any, change: bool) -> None:
        """Raises OrderError."""
        answer = place_order_once(
            PlaceOrder(
                order_id=uuid7(),
                user_id=form.cleaned_data["user_id"],
                lines=form.cleaned_data["order_lines"],
            ),
            caller=_actor(request),
            key=form.cleaned_data["idempotency_key"],
            metadata=Metadata(actor=_actor(request)),
        )
        obj.pk = answer.order_id

    def response_add(
        self, request: HttpRequest, obj: OrderView, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Don't redirect to the order's page: the projection may not have the order yet.
        customer = queries.customer(obj.user_id)
        name = customer.name if customer else f"{obj.user_id} (not in the customer view yet)"
        messages.success(request, f"Order {obj.pk} is placed for {name}.")
        return HttpResponseRedirect(reverse("admin:orders_orderview_changelist"))

    @admin.action(description="Cancel the selected orders", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[OrderView]) -> None:
        metadata, cancelled = Metadata(actor=_actor(request)), 0
        for order in queryset:
            try:
                cancel_order(CancelOrder(order_id=order.id), metadata=metadata)
            except OrderError as error:
                messages.error(request, str(error))
            else:
                self.log_change(request, order, "Cancelled.")
                cancelled += 1
        if cancelled:
            messages.success(request, f"{cancelled} cancelled.")


def _actor(request: HttpRequest) -> str:
    return f"staff {request.user.get_username()}"


def story_url(order_id: UUID) -> str:
    return reverse("pages:story", args=[order_id])


def order_links(order_id: UUID) -> str:
    return outbox.links(
        {
            "story": story_url(order_id),
            "events": outbox.list_url("orders", "storedevent", stream=order_id),
            "reservation": outbox.row_url("accounts", "reservation", order_id),
            "API": reverse("order-detail", args=[order_id]),
        }
    )


def order_link(order_id: UUID) -> str:
    return outbox.link(order_id, outbox.row_url("orders", "orderview", order_id))


def customer_link(user_id: UUID, name: str | None = None) -> str:
    return outbox.link(name or user_id, outbox.row_url("orders", "customerview", user_id))


def _events(order_id: str) -> list[dict[str, Any]]:
    """The stored events for the page of an order's history, also if one of them is missing."""
    try:
        rows = StoredEvent.objects.filter(stream=UUID(unquote(order_id))).order_by("version")
    except ValueError:
        return []  # Django redirects
    return [
        {
            "version": row.version,
            "name": row.type,
            "url": outbox.row_url("orders", "storedevent", row.pk),
            "at": row.recorded_at,
            "by": _author(row.metadata),
            "data": outbox.readable(row.data),
        }
        for row in rows
    ]


def _author(metadata: dict[str, Any]) -> str:
    """Who caused a stored event: a person, a program, or an event of accounts; '' for the sweep."""
    cause = metadata.get("causation")
    return metadata.get("actor") or (f"event {cause}" if cause else "")


@admin.register(StoredEvent)
class StoredEventAdmin(outbox.ReadOnlyAdmin):
    explanation = "The events of each order. They are the source of truth, and never change."
    list_display = ("id", "order", "version", "type", "recorded_at")
    fields = readonly_fields = (
        "id", "order", "version", "type", "schema_version", "content", "about", "xid",
        "recorded_at", "related",
    )  # fmt: skip
    search_fields = ("id", "stream")
    ordering = ("-id",)

    @admin.display(description="order")
    def order(self, event: StoredEvent) -> str:
        return order_link(event.stream)

    @admin.display(description="data")
    def content(self, event: StoredEvent) -> str:
        return outbox.readable(event.data)

    @admin.display(description="metadata")
    def about(self, event: StoredEvent) -> str:
        return outbox.readable(event.metadata)

    @admin.display(description="See also")
    def related(self, event: StoredEvent) -> str:
        return order_links(event.stream)


@admin.register(CustomerView)
class CustomerAdmin(outbox.ReadOnlyAdmin):
    explanation = "Copies of the customers of accounts, built from events."
    list_display = (
        "email", "name", "credit_limit", "credit_reserved", "is_active", "version", "updated_at",
    )  # fmt: skip
    fields = readonly_fields = (
        "id", "name", "email", "credit_limit", "credit_reserved", "is_active", "version",
        "created_at", "updated_at", "related",
    )  # fmt: skip
    search_fields = ("id",)
    search_help_text = (
        "Finds an exact id; other text in the addresses and names of the newest customers."
    )
    ordering = ("-id",)

    def matches(self, term: str) -> Q:
        contains = Q(email__icontains=term) | Q(name__icontains=term)
        return super().matches(term) or Q(pk__in=outbox.newest(CustomerView)) & contains

    @admin.display(description="See also")
    def related(self, customer: CustomerView) -> str:
        return outbox.links(
            {
                "orders": outbox.list_url("orders", "orderview", user_id=customer.pk),
                "user in accounts": outbox.row_url("accounts", "user", customer.pk),
                "reservations": outbox.list_url("accounts", "reservation", user_id=customer.pk),
            }
        )


@admin.register(Sales)
class SalesAdmin(outbox.ReadOnlyAdmin):
    explanation = "The sales of each day and SKU in confirmed orders."
    list_display = ("day", "sku", "orders", "quantity", "revenue")
    search_fields = ("id", "sku")
    search_help_text = "Finds an exact SKU, or a day and an SKU, such as 2026-11-25 tea."
    ordering = ("-id",)


@admin.register(CountedOrder)
class CountedOrderAdmin(outbox.ReadOnlyAdmin):
    explanation = "The share of each order in the sales, so that nothing is counted twice."
    is_plumbing = True
    list_display = ("order_id", "version", "day", "sales")
    search_fields = ("order_id",)
    ordering = ("-order_id",)


@admin.register(OrderDeadline)
class OrderDeadlineAdmin(outbox.ReadOnlyAdmin):
    explanation = "When each pending order expires."
    is_plumbing = True
    list_display = ("order_id", "due_at", "story")
    search_fields = ("order_id",)
    ordering = ("due_at", "order_id")

    @admin.display
    def story(self, deadline: OrderDeadline) -> str:
        return outbox.link("story", story_url(deadline.pk))


@admin.register(IdempotentRequest)
class IdempotentRequestAdmin(outbox.ReadOnlyAdmin):
    explanation = "Requests that placed an order, and the answers that repeated requests get."
    is_plumbing = True
    list_display = ("id", "caller", "key", "status", "order", "created_at")
    fields = readonly_fields = (
        "caller", "key", "fingerprint", "status", "content", "order", "created_at",
    )  # fmt: skip
    search_fields = ("caller",)
    search_help_text = "Finds an exact caller."
    ordering = ("-id",)

    @admin.display(description="order")
    def order(self, request: IdempotentRequest) -> str:
        return order_link(request.order_id)

    @admin.display(description="body")
    def content(self, request: IdempotentRequest) -> str:
        return outbox.readable(request.body)


@admin.register(KeyCopy)
class KeyCopyAdmin(outbox.ReadOnlyAdmin):
    explanation = "The last public keys of accounts, for processes that start while it is away."
    is_plumbing = True
    list_display = ("source", "fetched_at")
    ordering = ("source",)


@admin.register(OutboxEvent)
class OutboxEventAdmin(outbox.OutboxEventAdmin):
    pages = {"orders.order": ("orders", "orderview")}


admin.site.register(Tick, outbox.TickAdmin)
admin.site.register(Position, outbox.PositionAdmin)
admin.site.register(ParkedEvent, outbox.ParkedEventAdmin)
admin.site.register(Subscription, outbox.SubscriptionAdmin)
admin.site.register(State, outbox.StateAdmin)
