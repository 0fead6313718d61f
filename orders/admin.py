"""The back office of orders. It calls the handlers, so that an event announces each change."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from uuid_utils.compat import uuid7

from outbox import admin as outbox

from . import queries
from .domain.codec import read_lines
from .domain.commands import CancelOrder, PlaceOrder
from .domain.errors import InvalidLines, OrderError
from .domain.lines import Line, check_lines
from .domain.metadata import Metadata
from .handlers import cancel_order, place_order_once
from .models import (
    CountedOrder,
    CustomerView,
    IdempotentRequest,
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

EXAMPLE_LINES = [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]


def fresh_key() -> str:
    return str(uuid7())


class PlaceOrderForm(forms.ModelForm):  # type: ignore[type-arg]
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

    def clean_order_lines(self) -> tuple[Line, ...]:
        try:
            lines = read_lines(json.loads(self.cleaned_data["order_lines"]))
            check_lines(lines)
        except InvalidLines as exc:
            raise forms.ValidationError(str(exc)) from exc
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise forms.ValidationError(f"Not a list of lines: {exc!r:.200}") from exc
        return lines


@admin.register(OrderView)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Orders from the projection. Staff can place and cancel orders here, but can't edit them."""

    form = PlaceOrderForm
    list_display = (
        "id", "customer_name", "status", "total", "reason", "version", "placed_at",
    )  # fmt: skip
    list_filter = ("status", "placed_at")
    search_fields = ("=id", "=user_id")
    ordering = ("-id",)
    actions = ("cancel",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderView]:
        return queries.orders_with_customers()

    @admin.display(description="customer")
    def customer_name(self, order: Any) -> str:
        return order.customer_name or str(order.user_id)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("user_id", "order_lines", "idempotency_key")
        return [field.name for field in OrderView._meta.fields]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("orders.change_orderview"))

    def save_model(self, request: HttpRequest, obj: OrderView, form: Any, change: bool) -> None:
        """Raises OrderError, which `changeform_view` turns into a message."""
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

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # Only the handler can detect these errors, under its lock. Nothing was saved.
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except OrderError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

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


@admin.register(StoredEvent)
class StoredEventAdmin(outbox.ReadOnlyAdmin):
    list_display = ("id", "stream", "version", "type", "recorded_at")
    list_filter = ("type",)
    search_fields = ("=stream",)
    ordering = ("-id",)


@admin.register(CustomerView)
class CustomerAdmin(outbox.ReadOnlyAdmin):
    list_display = (
        "email", "name", "credit_limit", "credit_reserved", "is_active", "version", "updated_at",
    )  # fmt: skip
    list_filter = ("is_active",)
    search_fields = ("email", "name")
    ordering = ("-id",)


@admin.register(Sales)
class SalesAdmin(outbox.ReadOnlyAdmin):
    list_display = ("day", "sku", "orders", "quantity", "revenue")
    list_filter = ("day",)
    search_fields = ("=sku",)
    ordering = ("-id",)


@admin.register(CountedOrder)
class CountedOrderAdmin(outbox.ReadOnlyAdmin):
    list_display = ("order_id", "version", "day", "sales")
    search_fields = ("=order_id",)
    ordering = ("-order_id",)


@admin.register(OrderDeadline)
class OrderDeadlineAdmin(outbox.ReadOnlyAdmin):
    list_display = ("order_id", "due_at")
    search_fields = ("=order_id",)
    ordering = ("due_at",)


@admin.register(IdempotentRequest)
class IdempotentRequestAdmin(outbox.ReadOnlyAdmin):
    list_display = ("caller", "key", "status", "order_id", "created_at")
    search_fields = ("=caller", "=key", "=order_id")
    ordering = ("-id",)


admin.site.register(OutboxEvent, outbox.OutboxEventAdmin)
admin.site.register(Tick, outbox.TickAdmin)
admin.site.register(Position, outbox.PositionAdmin)
admin.site.register(ParkedEvent, outbox.ParkedEventAdmin)
admin.site.register(Subscription, outbox.SubscriptionAdmin)
admin.site.register(State, outbox.StateAdmin)
