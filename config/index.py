"""The API's root page, its OpenAPI schema, and the docs made of the schema."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config import csp


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


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI, with its script in a response of its own. It has inline styles."""

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response.headers[csp.HEADER] = csp.policy(settings.CSP_OF_BROWSABLE_API)
        return super().finalize_response(request, response, *args, **kwargs)


def _is_entrance(route: str) -> bool:
    return route.startswith("api/") and route != "api/" and "<" not in route


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route
