"""Every route says who may use it; nothing is open by oversight."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import AllowAny, BasePermission

# Open to everybody, each for a reason.
OPEN = {
    "",  # leads to the API's root
    "api/",  # names what there is
    "api/docs/",
    "api/schema/",
    "api/session/login/",
    "api/session/logout/",
    "api/token/",  # proves who somebody is
    "api/token/refresh/",
    ".well-known/jwks.json",  # public keys
    "healthz/live",
    "healthz/ready",
}


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            # The admin decides for itself, page by page, with admin_view.
            if pattern.app_name != "admin":
                yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


ROUTES = dict(routes())


def view_class(callback: Any) -> Any:
    return getattr(callback, "cls", None) or getattr(callback, "view_class", None)


def permissions_of(callback: Any) -> list[type[BasePermission]]:
    return list(getattr(view_class(callback), "permission_classes", ()))


@pytest.mark.parametrize("route", sorted(set(ROUTES) - OPEN))
def test_every_route_declares_who_may_use_it(route: str) -> None:
    view = view_class(ROUTES[route])

    assert view is not None, "not a class: nothing decides who may use it"
    assert permissions_of(ROUTES[route]), "no permission is asked for"
    assert AllowAny not in permissions_of(ROUTES[route])
    assert view.authentication_classes, "nobody could ever be known here"


@pytest.mark.parametrize("route", sorted(set(ROUTES) & OPEN))
def test_only_listed_routes_are_open(route: str) -> None:
    assert set(permissions_of(ROUTES[route])) <= {AllowAny}


def test_the_api_is_closed_unless_a_view_says_otherwise(settings: Any) -> None:
    framework = settings.REST_FRAMEWORK

    assert framework["DEFAULT_PERMISSION_CLASSES"] == ["rest_framework.permissions.IsAuthenticated"]
    assert framework["DEFAULT_AUTHENTICATION_CLASSES"][0] == "config.identity.BearerAuthentication"
