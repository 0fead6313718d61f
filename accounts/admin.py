"""The back office of accounts. It calls the handlers, so that an event announces each change."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from outbox import admin as outbox

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

EDITABLE = ("name", "email", "credit_limit", "is_staff", "is_active")


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
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
class UserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = UserForm
    list_display = (
        "email", "name", "credit_limit", "credit_reserved", "is_staff", "is_active", "version",
    )  # fmt: skip
    list_filter = ("is_active", "is_staff", "created_at")
    search_fields = ("email", "name")
    ordering = ("-id",)
    fields = (
        *EDITABLE, "new_password", "seen_version",
        "credit_reserved", "version", "created_at", "updated_at",
    )  # fmt: skip
    readonly_fields = ("credit_reserved", "version", "created_at", "updated_at")
    actions = ("deactivate",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).filter(erased_at=None)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # Filters on the password hash would reveal the hash character by character.
        return not lookup.startswith("password") and super().lookup_allowed(lookup, value, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "email", "new_password", "credit_limit", "is_staff")
        return self.fields

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Raises AccountsError, which `changeform_view` turns into a message."""
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
        except AccountsError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    @admin.action(description="Deactivate the selected users", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        chosen = list(queryset.filter(is_active=True).values_list("pk", flat=True))
        for user_id in chosen:
            deactivate_user(DeactivateUser(user_id=user_id))
        self.message_user(request, f"{len(chosen)} deactivated.", messages.SUCCESS)


@admin.register(UserHistory)
class UserHistoryAdmin(outbox.ReadOnlyAdmin):
    list_display = ("user", "version", "event", "recorded_at")
    list_filter = ("event", "recorded_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "user__id")
    ordering = ("-id",)


@admin.register(Erasure)
class ErasureAdmin(outbox.ReadOnlyAdmin):
    list_display = ("user_id", "row", "purged_at")
    search_fields = ("=user_id",)
    ordering = ("-row",)


@admin.register(Reservation)
class ReservationAdmin(outbox.ReadOnlyAdmin):
    list_display = ("order_id", "user_id", "amount", "status", "updated_at")
    list_filter = ("status",)
    search_fields = ("order_id", "user_id")
    ordering = ("-updated_at",)


admin.site.register(OutboxEvent, outbox.OutboxEventAdmin)
admin.site.register(Tick, outbox.TickAdmin)
admin.site.register(Position, outbox.PositionAdmin)
admin.site.register(ParkedEvent, outbox.ParkedEventAdmin)
admin.site.register(Subscription, outbox.SubscriptionAdmin)
admin.site.register(State, outbox.StateAdmin)
