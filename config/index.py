"""The API's root page and its OpenAPI schema."""

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class ApiRoot(APIView):
    """The collections of this API. Staff may log in above; customers use a bearer token."""

    permission_classes = (AllowAny,)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        routes = [route for route in _routes(get_resolver().url_patterns) if _is_entrance(route)]
        return Response(
            {route: request.build_absolute_uri(f"/{route}") for route in sorted(set(routes))}
        )


class Schema(SpectacularAPIView):
    """The schema without the parameter `version`, whose value would get into a header."""

    def _get_version_parameter(self, request: Request) -> None:
        return None


def _is_entrance(route: str) -> bool:
    return route.startswith("api/") and route != "api/" and "<" not in route


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route
