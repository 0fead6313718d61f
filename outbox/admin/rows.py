"""The admin pages of the outbox's own tables, except the parked events."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.contrib import admin
from django.db.models import BooleanField, Case, Func, Q, QuerySet, Value, When
from django.http import HttpRequest
from django.utils.safestring import SafeString

from .. import tables
from ..errors import StreamsMisconfigured, StreamsUnavailable
from ..models import AbstractOutboxEvent, AbstractPosition, AbstractSubscription, AbstractTick
from ..streams import connect, described, order
from .lists import ReadOnlyAdmin, link, readable, row_url
from .parked import ConsumerFilter

UNKNOWN: Final = Value(None, output_field=BooleanField(null=True))


class _Sees(Func):
    """Whether a snapshot sees a transaction."""

    function = "pg_visible_in_snapshot"
    template = "%(function)s(%(expressions)s::pg_snapshot)"
    output_field = BooleanField()


class OutboxEventAdmin(ReadOnlyAdmin):
    """`pages` has the label and the model that a subject's page belongs to, for each aggregate."""

    explanation = "An event of each change, stored in the same transaction, then published."
    is_plumbing = True
    list_display = ("id", "type", "subject", "is_sent", "recorded", "partition", "xid")
    fields = readonly_fields = (
        "id", "type", "subject", "is_sent", "recorded", "partition", "xid", "event",
    )  # fmt: skip
    search_fields = ("id", "xid")
    search_help_text = "Finds an exact row id or transaction id."
    ordering = ("-id",)
    pages: Mapping[str, tuple[str, str]] = {}

    def get_queryset(self, request: HttpRequest) -> QuerySet[AbstractOutboxEvent]:
        rows: QuerySet[AbstractOutboxEvent] = super().get_queryset(request)
        return rows.annotate(sent=self._sent())

    def _sent(self) -> Any:
        """Whether the cursor's tick, or the tick before, has the row. Unknown without a cursor."""
        found = tables.of(self.opts.app_label)
        try:
            at = connect().peek_cursor(found.label).at
        except (StreamsUnavailable, StreamsMisconfigured):
            return UNKNOWN
        if not at:
            return Value(value=False)
        number, row = order(at)
        tick = found.rows(found.tick).filter(pk=number).first()
        if tick is None:
            return UNKNOWN
        is_sent = Q(_Sees("xid", Value(tick.snapshot)))
        if row < 2**63:  # a part of the tick is sent
            before = found.rows(found.tick).filter(pk=tick.prev or 0).first()
            is_sent &= Q(id__lte=row) | Q(_Sees("xid", Value((before or tick).snapshot)))
        return Case(When(is_sent, then=Value(value=True)), default=Value(value=False))

    @admin.display
    def type(self, row: AbstractOutboxEvent) -> str:
        return str(_member(row, "type"))

    @admin.display
    def subject(self, row: AbstractOutboxEvent) -> str:
        subject = str(_member(row, "subject"))
        page = self.pages.get(".".join(self.type(row).split(".")[:2]))
        return link(subject, row_url(*page, subject) if page else None)

    @admin.display(description="sent", boolean=True)
    def is_sent(self, row: Any) -> bool | None:
        sent: bool | None = row.sent
        return sent

    @admin.display(description="time of the change")
    def recorded(self, row: AbstractOutboxEvent) -> str:
        return str(_member(row, "time"))

    @admin.display
    def event(self, row: AbstractOutboxEvent) -> SafeString:
        return readable(row.body)


def _member(row: AbstractOutboxEvent, name: str) -> Any:
    try:
        return json.loads(row.body).get(name, "-")
    except (ValueError, AttributeError, RecursionError):
        return "-"


def moment(tick: int | None) -> str:
    """The time in a tick's id, to the millisecond."""
    try:
        at = datetime.fromtimestamp((tick or 0) // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "-"
    return f"{at:%Y-%m-%d %H:%M:%S}.{(tick or 0) % 1000:03} UTC" if tick else "-"


class TickAdmin(ReadOnlyAdmin):
    explanation = "The relay's batches: a tick publishes the rows that its snapshot adds."
    is_plumbing = True
    list_display = fields = ("id", "made", "prev", "snapshot_text", "skipped")
    readonly_fields = ("made", "snapshot_text", "skipped")
    search_fields = ("id",)
    ordering = ("-id",)

    @admin.display(description="time")
    def made(self, tick: AbstractTick) -> str:
        return moment(tick.pk)

    @admin.display(description="snapshot")
    def snapshot_text(self, tick: AbstractTick) -> str:
        return str(tick.snapshot)

    @admin.display(description="rows sent before")
    def skipped(self, tick: AbstractTick) -> int:
        return len(tick.skip or ())


class PositionAdmin(ReadOnlyAdmin):
    explanation = "How far each consumer has applied each partition."
    is_plumbing = True
    list_display = fields = ("consumer", "producer", "partition", "applied", "published")
    readonly_fields = ("applied", "published")
    list_filter = (ConsumerFilter,)
    # Without `id`: a moving position sometimes gets a new one. A partition has one row.
    ordering = ("consumer", "producer", "partition")

    @admin.display(description="last applied entry")
    def applied(self, position: AbstractPosition) -> str:
        return described(position.entry)

    @admin.display(description="published")
    def published(self, position: AbstractPosition) -> str:
        return moment(order(position.entry)[0])


class SubscriptionAdmin(ReadOnlyAdmin):
    explanation = "The subscribers of this service's events; retention waits for them."
    is_plumbing = True
    list_display = fields = ("name", "confirmed", "confirmed_tick", "confirmed_at")
    readonly_fields = ("confirmed_tick",)
    ordering = ("name",)

    @admin.display(description="applied all events up to")
    def confirmed_tick(self, subscription: AbstractSubscription) -> str:
        return moment(subscription.confirmed)


class StateAdmin(ReadOnlyAdmin):
    explanation = "Named values of this schema, such as the number of partitions."
    is_plumbing = True
    list_display = ("name", "value")
    ordering = ("name",)
