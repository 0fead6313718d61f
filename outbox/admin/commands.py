"""Admin pages whose form runs a command, which can refuse the change."""

from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest, HttpResponse

from .lists import IndexedAdmin


class CommandForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that shows why its command was refused, next to what was typed."""

    refusal: Exception | None = None  # `CommandAdmin` sets it after the command was refused

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.refusal:
            raise forms.ValidationError(str(self.refusal))
        return cleaned


class CommandAdmin(IndexedAdmin):
    """An admin page that changes rows by commands: `save_model` calls a handler. Only the handler
    can detect some errors, under its lock. If it raises `refusals`, nothing is saved, and the form,
    a `CommandForm`, is shown again."""

    refusals: ClassVar[type[Exception]]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "refusal", None)
        return form

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except self.refusals as refusal:
            request.refusal = refusal  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)
