"""Admin classes for the outbox's tables. Each service registers its models with these classes."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from . import consumer as consumers
from .consuming.parking import Parking
from .errors import OutboxError, Unconfigured
from .models import AbstractParkedEvent, AbstractPosition, AbstractTick
from .streams import described


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin page on which no row can be added, changed or deleted."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "xid", "partition", "body")
    list_filter = ("partition",)
    ordering = ("-id",)


class TickAdmin(ReadOnlyAdmin):
    list_display = ("id", "prev", "snapshot_text")
    ordering = ("-id",)

    @admin.display(description="snapshot")  # not sortable: PostgreSQL doesn't order snapshots
    def snapshot_text(self, tick: AbstractTick) -> str:
        return str(tick.snapshot)


class PositionAdmin(ReadOnlyAdmin):
    list_display = fields = ("consumer", "producer", "partition", "applied")
    readonly_fields = ("applied",)
    list_filter = ("consumer", "producer")
    ordering = ("consumer", "producer", "partition")

    @admin.display(description="entry", ordering="entry")
    def applied(self, position: AbstractPosition) -> str:
        return described(position.entry)


class SubscriptionAdmin(ReadOnlyAdmin):
    list_display = ("name", "confirmed", "confirmed_at")


class StateAdmin(ReadOnlyAdmin):
    list_display = ("name", "value")


class ParkedActionForm(ActionForm):
    reason = forms.CharField(required=False, label="Reason to drop:")


class ParkedEventAdmin(ReadOnlyAdmin):
    """Lists parked and dropped events, with actions that retry or drop their parked sequences."""

    list_display = ("id", "consumer", "key", "type", "error", "attempts", "parked_at", "dropped_at")
    list_filter = ("consumer", "producer", ("dropped_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "type", "error")
    ordering = ("id",)
    action_form = ParkedActionForm
    actions = ("retry", "drop")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    @admin.action(description="Retry the sequences of the selected events", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[AbstractParkedEvent]) -> None:
        for name, producer, partition, key, _ in _sequences_of(request, queryset):
            try:
                consumer = consumers.named(name, of=self.opts.app_label)
            except Unconfigured as exc:
                messages.error(request, str(exc))
                continue
            parking = Parking(consumer.tables, consumer=name, producer=producer)
            done = parking.retry(consumer, partition=partition, key=key)
            result = f"{name}, {key or 'without a key'}: {done.applied} applied"
            if done.error:
                messages.error(request, f"{result}; stopped at: {done.error}")
            else:
                messages.success(request, result)

    @admin.action(description="Drop the sequences of the selected events", permissions=["retry"])
    def drop(self, request: HttpRequest, queryset: QuerySet[AbstractParkedEvent]) -> None:
        reason = request.POST.get("reason", "").strip()
        if not reason:
            messages.error(request, "Enter the reason next to the action; nothing was dropped.")
            return
        by = request.user.get_username()
        for name, producer, partition, key, last in _sequences_of(request, queryset):
            try:
                consumer = consumers.named(name, of=self.opts.app_label)
                parking = Parking(consumer.tables, consumer=name, producer=producer)
                dropped = parking.drop(
                    consumer, partition=partition, key=key, upto=last, reason=reason, by=by
                )
            except OutboxError as exc:
                messages.error(request, str(exc))
                continue
            result = f"{name}, {key or 'without a key'}: {len(dropped)} dropped"
            if dropped:  # one entry, under the first event: a sequence can be long
                first = self.model(pk=dropped[0], consumer=name, key=key)
                self.log_change(request, first, f"{result}, up to id {dropped[-1]}: {reason}")
            messages.success(request, result)


def _sequences_of(
    request: HttpRequest, queryset: QuerySet[AbstractParkedEvent]
) -> list[tuple[str, str, int, str, int]]:
    """The consumer, producer, partition, key and last id of each sequence that has a selected
    event. A dropped event belongs to no sequence, also if other events of its key are parked."""
    chosen = queryset.filter(dropped_at=None).order_by()
    fields = ("consumer", "producer", "partition", "key")
    of_same = {field: OuterRef(field) for field in fields}
    rows = queryset.model._default_manager.using(queryset.db)
    same = rows.filter(dropped_at=None, **of_same).order_by("-id")
    last = Subquery(same.values("id")[:1])
    found = list(chosen.annotate(last=last).values_list(*fields, "last").distinct())
    if not found:
        messages.warning(request, "None of the selected events is parked; nothing was changed.")
    return found
