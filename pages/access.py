"""Who may open a page. The permission of every page is its base class or a line in a test."""

from typing import Any

from django.contrib.auth.mixins import UserPassesTestMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers


def wants_page(request: HttpRequest) -> bool:
    """Whether the client prefers HTML, as browsers do. A program with `Accept: */*` doesn't."""
    kinds = ["application/problem+json", "application/json", "text/html"]
    return request.get_preferred_type(kinds) == "text/html"


class StaffOnly(UserPassesTestMixin):
    """A view for active staff with a session. Otherwise a browser that isn't logged in gets the
    log-in page, and every other client 403. No cache stores a response, also not the browser's:
    after the log-out, *Back* shows nothing."""

    request: HttpRequest

    def test_func(self) -> bool:
        user = self.request.user
        return user.is_active and user.is_staff

    def handle_no_permission(self) -> Any:
        if not wants_page(self.request):
            raise PermissionDenied
        return super().handle_no_permission()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        add_never_cache_headers(response)
        patch_vary_headers(response, ["Accept", "Cookie"])
        return response
