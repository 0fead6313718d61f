"""The admin page of parked events, with the actions that retry or drop their sequences."""

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from .. import consumer as consumers
from ..consuming.parking import Parking
from ..errors import OutboxError, Unconfigured
from ..models import AbstractParkedEvent
from ..partitions import partition_count, partition_of
from .lists import ReadOnlyAdmin, readable

ERROR_CHARACTERS: Final = 160  # in the list


class ConsumerFilter(admin.SimpleListFilter):
    """Filters by the service's consumers. Django's own filter would read the table for them."""

    title = parameter_name = "consumer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        label = model_admin.opts.app_label
        return [(one.name, one.name) for one in consumers.every() if one.label == label]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(consumer=self.value()) if self.value() else queryset


class ParkedActionForm(ActionForm):
    reason = forms.CharField(required=False, label="Reason to drop:")


class ParkedEventAdmin(ReadOnlyAdmin):
    """Lists parked and dropped events, with actions that retry or drop their parked sequences."""

    explanation = "Events that a consumer can't apply, and the later events of their keys."
    is_plumbing = True
    list_display = (
        "id", "consumer", "key", "type", "reason", "attempts", "parked_at", "dropped_at",
    )  # fmt: skip
    fields = (
        "consumer", "producer", "partition", "key", "entry", "type", "attempts", "parked_at",
        "error", "raised_at", "event", "dropped_at", "dropped_by", "drop_reason",
    )  # fmt: skip
    readonly_fields = ("raised_at", "event")
    list_filter = (ConsumerFilter, ("dropped_at", admin.EmptyFieldListFilter))
    search_fields = ("id",)
    search_help_text = "Finds an exact key or id."
    ordering = ("id",)
    action_form = ParkedActionForm
    actions = ("retry", "drop")

    @admin.display(description="error")
    def reason(self, parked: AbstractParkedEvent) -> str:
        return Truncator(parked.error).chars(ERROR_CHARACTERS) or "waits behind an event of its key"

    @admin.display(description="traceback")
    def raised_at(self, parked: AbstractParkedEvent) -> SafeString:
        return format_html("<pre>{}</pre>", parked.traceback)

    @admin.display(description="event")
    def event(self, parked: AbstractParkedEvent) -> SafeString:
        return readable(parked.body)

    def matches(self, term: str) -> Q:
        # The indexes of this table start with the consumer, and each has a part of the rows.
        mine = [one for one in consumers.every() if one.label == self.opts.app_label]
        of_key = Q(
            consumer__in=[one.name for one in mine],
            producer__in={producer for one in mine for producer in one.producers},
            partition=partition_of(term, partitions=partition_count()),
            key=term,
        )
        of_key = of_key & Q(dropped_at=None) | of_key & Q(dropped_at__isnull=False)
        return of_key | super().matches(term)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    @admin.action(description="Retry the sequences of the selected events", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[AbstractParkedEvent]) -> None:
        for name, producer, partition, key, last in _sequences_of(request, queryset):
            try:
                consumer = consumers.named(name, of=self.opts.app_label)
            except Unconfigured as exc:
                messages.error(request, str(exc))
                continue
            parking = Parking(consumer.tables, consumer=name, producer=producer)
            done = parking.retry(consumer, partition=partition, key=key)
            result = f"{name}, {key or 'without a key'}: {done.applied} applied"
            # An error can contain personal data, which an erasure doesn't find in the log.
            logged = f"Retried: {result}" + ("; the next event fails" if done.error else "")
            self.log_change(request, self.model(pk=last, consumer=name, key=key), logged)
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
