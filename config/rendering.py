"""The pages of the browsable API: forms keep what was typed, and pages link to each other.

This module must not import DRF's views, which import it.
"""

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from rest_framework.exceptions import APIException
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.serializer_helpers import ReturnDict

from config import csp

JSON: Final = "application/json"
WRITES: Final = {"POST", "PUT", "PATCH"}
SPENT: Final = 422  # the idempotency key belongs to another request


class PageRenderer(BrowsableAPIRenderer):
    """A view may have a method `links`, which returns the label and the URL of related pages for
    the data of the response. DRF's templates contain inline styles, so the pages have a policy of
    their own."""

    renderer_context: Mapping[str, Any]  # DRF sets it

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        context = renderer_context or {}
        context["response"].headers[csp.HEADER] = csp.policy(settings.CSP_OF_BROWSABLE_API)
        page = super().render(data, accepted_media_type, context)
        # A screen reader needs the language, which isn't in a block of the template.
        return page.replace("<html>", '<html lang="en">', 1)

    def get_context(self, data: Any, accepted_media_type: Any, renderer_context: Any) -> Any:
        context = super().get_context(data, accepted_media_type, renderer_context)
        view, response = renderer_context["view"], renderer_context["response"]
        links = getattr(view, "links", None)
        is_shown = response.status_code < 400 and renderer_context["request"].method != "OPTIONS"
        found = links(data) if links and is_shown else []
        return {**context, "links": found}

    def get_rendered_html_form(self, data: Any, view: Any, method: str, request: Request) -> Any:
        serializer = self._typed(view, method, request)
        if serializer is not None:
            data = ReturnDict(data, serializer=serializer)
        return super().get_rendered_html_form(data, view, method, request)

    def get_raw_data_form(self, data: Any, view: Any, method: str, request: Request) -> Any:
        form = super().get_raw_data_form(data, view, method, request)
        # PUT and PATCH have one form, which DRF makes for PUT.
        refused = "PATCH" if method == "PUT" and request.method == "PATCH" else method
        if form and self._is_refused(refused, request) and request.content_type == JSON:
            # The middleware `whole_body` has read the body.
            form.fields["_content"].initial = request._request.body.decode(errors="replace")
        return form

    def _is_refused(self, method: str, request: Request) -> bool:
        response = self.renderer_context["response"]
        return method in WRITES and request.method == method and response.status_code >= 400

    def _typed(self, view: Any, method: str, request: Request) -> BaseSerializer[Any] | None:
        """The form of a refused request, with its values: bound, so that it shows the errors of
        fields, or filled, if the view refused valid fields. None if there was no form."""
        if not self._is_refused(method, request) or not hasattr(view, "get_serializer"):
            return None
        try:
            sent = request.data
        except APIException:  # the body can't be parsed
            return None
        if not hasattr(sent, "getlist"):
            return None
        bound: BaseSerializer[Any] = view.get_serializer(data=sent)
        if not bound.is_valid():
            return bound
        filled: Any = view.get_serializer()
        for name, field in filled.fields.items():
            if name in sent and not self._is_spent(field):
                field.initial = field.get_value(sent)
        return filled  # type: ignore[no-any-return]

    def _is_spent(self, field: Any) -> bool:
        """Whether the value must not be sent again: a key that belongs to another request."""
        is_hidden: bool = field.style.get("input_type") == "hidden"
        return is_hidden and self.renderer_context["response"].status_code == SPENT
