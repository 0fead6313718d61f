"""Every route declares its permissions. Only the listed routes need no authentication."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import AllowAny, BasePermission

from lab.api.serializers import ID
from pages.access import StaffOnly

# Routes without authentication, each with the reason.
OPEN = {
    "",  # the front page; without figures for people who aren't logged in
    "problems/",  # explains the types of errors
    "problems/<slug:slug>/",
    "api/",  # lists the endpoints
    "api/docs/",
    "api/schema/",
    "api/session/login/",
    "api/session/logout/",
    "api/token/",  # authenticates
    "api/token/refresh/",
    "api/token/logout/",
    ".well-known/jwks.json",  # public keys
    "healthz/live",
    "healthz/ready",
    "lab/",  # for development; see lab/README.md
    "lab/<str:way>/users/",
    rf"^lab/(?P<way>[^/]+)/users/(?P<user_id>{ID})/\Z",
}


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            # The admin checks each page itself, with admin_view.
            if pattern.app_name != "admin":
                yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


ROUTES = dict(routes())


def view_class(callback: Any) -> Any:
    return getattr(callback, "cls", None) or getattr(callback, "view_class", None)


def permissions_of(callback: Any) -> list[type[BasePermission]]:
    return list(getattr(view_class(callback), "permission_classes", ()))


def test_every_route_declares_who_may_use_it() -> None:
    for route in sorted(set(ROUTES) - OPEN):
        view = view_class(ROUTES[route])
        if view is not None and issubclass(view, StaffOnly):
            continue

        assert view is not None, f"{route}: the view isn't a class, so it has no permissions"
        assert permissions_of(ROUTES[route]), f"{route}: the view has no permission classes"
        assert AllowAny not in permissions_of(ROUTES[route]), route
        assert view.authentication_classes, f"{route}: the view has no authentication classes"


def test_only_listed_routes_are_open() -> None:
    for route in set(ROUTES) & OPEN:
        assert set(permissions_of(ROUTES[route])) <= {AllowAny}, route


def test_the_api_is_closed_unless_a_view_says_otherwise(settings: Any) -> None:
    framework = settings.REST_FRAMEWORK

    assert framework["DEFAULT_PERMISSION_CLASSES"] == ["rest_framework.permissions.IsAuthenticated"]
    assert framework["DEFAULT_AUTHENTICATION_CLASSES"][0] == "config.identity.BearerAuthentication"
