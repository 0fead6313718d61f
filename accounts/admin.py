"""The back office of accounts. It calls the handlers, so that an event announces each change."""

from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from outbox import admin as outbox

from . import families
from .domain.commands import DEFAULT_CREDIT_LIMIT, DeactivateUser, RegisterUser, UpdateUser
from .domain.errors import AccountsError
from .handlers import deactivate_user, register_user, update_user
from .models import (
    Erasure,
    OutboxEvent,
    ParkedEvent,
    Position,
    Reservation,
    State,
    Subscription,
    Tick,
    User,
    UserHistory,
)

SHOWN_VERSIONS: Final = 200  # in the history of a user
EDITABLE = ("name", "email", "credit_limit", "is_staff", "is_active")


class UserForm(outbox.CommandForm):
    """`seen_version` is the version that the form was rendered from."""

    new_password = forms.CharField(
        max_length=128,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Leave empty to keep the current password.",
    )
    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = User
        fields = EDITABLE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._adding:
            self.fields["new_password"].required = True
            self.fields["new_password"].help_text = ""
            self.initial.setdefault("credit_limit", DEFAULT_CREDIT_LIMIT)
        else:
            self.initial["seen_version"] = self.instance.version

    @property
    def _adding(self) -> bool:
        return self.instance.created_at is None

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        seen = self.cleaned_data.get("seen_version")
        if not self._adding and seen != self.instance.version:
            raise forms.ValidationError(
                f"The user has changed since you opened this page: version "
                f"{self.instance.version}, not {seen}. Load the page again."
            )
        return cleaned


@admin.register(User)
class UserAdmin(outbox.CommandAdmin):
    explanation = "Customers and their credit. A change here is announced to orders."
    object_history_template = "outbox/object_history.html"
    form = UserForm
    refusals = AccountsError
    list_display = (
        "email", "name", "credit_limit", "credit_reserved", "is_staff", "is_active", "version",
    )  # fmt: skip
    search_fields = ("id",)
    search_help_text = "Finds an exact address or id; other text in the names of the newest users."
    ordering = ("-id",)
    fields = (
        *EDITABLE, "new_password", "seen_version",
        "credit_reserved", "version", "created_at", "updated_at", "related",
    )  # fmt: skip
    readonly_fields = ("credit_reserved", "version", "created_at", "updated_at", "related")
    actions = ("deactivate", "log_out")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).filter(erased_at=None)

    def matches(self, term: str) -> Q:
        if "@" in term:
            return Q(pk__in=User.objects.with_email(term).values("pk"))
        newest = Q(pk__in=outbox.newest(User), name__icontains=term)
        return super().matches(term) or newest

    @admin.display(description="See also")
    def related(self, user: User) -> str:
        return outbox.links(
            {
                "reservations": outbox.list_url("accounts", "reservation", user_id=user.pk),
                "versions": outbox.list_url("accounts", "userhistory", user=user.pk),
                "orders": outbox.list_url("orders", "orderview", user_id=user.pk),
                "copy in orders": outbox.row_url("orders", "customerview", user.pk),
                "API": reverse("user-detail", args=[user.pk]),
            }
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = f"Versions, the newest first, up to {SHOWN_VERSIONS}"
        context = {"events_title": title, "events": _versions(object_id)}
        return super().history_view(request, object_id, context | (extra_context or {}))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "email", "new_password", "credit_limit", "is_staff")
        return self.fields

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Raises AccountsError."""
        fields = {name: form.cleaned_data[name] for name in EDITABLE if name in form.cleaned_data}
        password = form.cleaned_data.get("new_password") or None
        if change:
            update_user(
                UpdateUser(
                    user_id=obj.pk,
                    expected_version=form.cleaned_data["seen_version"],
                    by_staff=True,
                    password=password,
                    **fields,
                )
            )
        else:
            obj.pk = register_user(RegisterUser(password=password or "", **fields)).id
        obj.refresh_from_db()

    @admin.action(description="Deactivate the selected users", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        chosen = list(queryset.filter(is_active=True).values_list("pk", flat=True))
        for user_id in chosen:
            deactivate_user(DeactivateUser(user_id=user_id))
            self.log_change(request, User.objects.get(pk=user_id), "Deactivated.")
        self.message_user(request, f"{len(chosen)} deactivated.", messages.SUCCESS)

    @admin.action(description="End all log-ins of the selected users", permissions=["change"])
    def log_out(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        ended = 0
        for user in queryset:
            ended += families.end_all(user.pk)
            self.log_change(request, user, "Logged out.")
        self.message_user(request, f"{ended} log-ins ended.", messages.SUCCESS)


def _versions(user_id: str) -> list[dict[str, Any]]:
    """The versions of a user, for the page of the user's history."""
    try:
        rows = UserHistory.objects.filter(user=UUID(unquote(user_id))).order_by("-version")
    except ValueError:
        return []  # Django redirects
    return [
        {
            "version": row.version,
            "name": row.event,
            "url": outbox.row_url("accounts", "userhistory", row.pk),
            "at": row.recorded_at,
            "data": outbox.readable(row.data),
        }
        for row in rows[:SHOWN_VERSIONS]
    ]


def user_link(user_id: UUID | None) -> str:
    return outbox.link(user_id, outbox.row_url("accounts", "user", user_id) if user_id else None)


@admin.register(UserHistory)
class UserHistoryAdmin(outbox.ReadOnlyAdmin):
    explanation = "Each version of each user, with the event that led to it."
    list_display = ("id", "customer", "version", "event", "recorded_at")
    fields = readonly_fields = ("customer", "version", "event", "recorded_at", "content")
    list_select_related = ("user",)
    search_fields = ("user",)
    search_help_text = "Finds the exact id or e-mail address of a user."
    ordering = ("-id",)

    def matches(self, term: str) -> Q:
        if "@" in term:
            return Q(user__in=User.objects.with_email(term).values("pk"))
        return super().matches(term)

    @admin.display(description="user")
    def customer(self, row: UserHistory) -> str:
        return outbox.link(row.user, outbox.row_url("accounts", "user", row.user_id))

    @admin.display(description="data")
    def content(self, row: UserHistory) -> str:
        return outbox.readable(row.data)


@admin.register(Erasure)
class ErasureAdmin(outbox.ReadOnlyAdmin):
    explanation = "Forgotten users, and whether their older events are purged."
    is_plumbing = True
    list_display = ("user_id", "row", "purged_at")
    search_fields = ("user_id",)
    ordering = ("-user_id",)


@admin.register(Reservation)
class ReservationAdmin(outbox.ReadOnlyAdmin):
    explanation = "The credit that each order holds, has released, or was refused."
    list_display = ("order_id", "user", "amount", "status", "updated_at")
    fields = readonly_fields = (
        "order_id", "user", "amount", "status", "created_at", "updated_at", "related",
    )  # fmt: skip
    search_fields = ("order_id", "user_id")
    ordering = ("-order_id",)

    @admin.display(description="user")
    def user(self, reservation: Reservation) -> str:
        return user_link(reservation.user_id)

    @admin.display(description="See also")
    def related(self, reservation: Reservation) -> str:
        return outbox.links(
            {
                "order": outbox.row_url("orders", "orderview", reservation.pk),
                "story of the order": outbox.page_url("orders", f"/orders/{reservation.pk}/"),
            }
        )


@admin.register(OutboxEvent)
class OutboxEventAdmin(outbox.OutboxEventAdmin):
    pages = {"accounts.user": ("accounts", "user"), "accounts.credit": ("accounts", "user")}


admin.site.register(Tick, outbox.TickAdmin)
admin.site.register(Position, outbox.PositionAdmin)
admin.site.register(ParkedEvent, outbox.ParkedEventAdmin)
admin.site.register(Subscription, outbox.SubscriptionAdmin)
admin.site.register(State, outbox.StateAdmin)
