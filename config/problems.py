"""Turns every error of DRF, Django and the services into an RFC 9457 problem+json response.

Services declare their errors in `<service>.api.problems.PROBLEMS`:
{exception class: {"status", "slug", "title", "explanation"}}. The detail is the exception's text.
If the exception has a dict `extras`, its items become extension members. A browser gets a page.
"""

import sys
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string, module_has_submodule
from psycopg2.errors import ReadOnlySqlTransaction
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from outbox.consuming.reader import is_transient

CONTENT_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 2

Problem = dict[str, Any]


def problem(
    status: int,
    *,
    detail: str,
    instance: str,
    slug: str = "",
    title: str = "",
    extras: Mapping[str, Any] | None = None,
) -> Problem:
    """An RFC 9457 document. Without a slug its type is `about:blank`."""
    return {
        **(extras or {}),
        "type": f"/problems/{slug}" if slug else "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
    }


@cache
def table() -> Mapping[type[Exception], Mapping[str, Any]]:
    """The declared errors of the installed services."""
    entries: dict[type[Exception], Mapping[str, Any]] = {}
    for name in settings.APPLICATIONS:
        api = import_module(f"{name}.api")
        if module_has_submodule(api, "problems"):
            entries |= import_module(f"{name}.api.problems").PROBLEMS
    return entries


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. For an undeclared exception it returns None: Django sends a 500."""
    request = context["request"]
    response = _declared(exc, request.path) or _drf(exc, context)
    if response is not None and _renders_json(request):
        response.content_type = CONTENT_TYPE
    return response


def _renders_json(request: Any) -> bool:
    """Whether the response is JSON. The browsable API shows the document in an HTML page."""
    renderer = getattr(request, "accepted_renderer", None)
    return renderer is None or renderer.format == "json"


def _declared(exc: Exception, instance: str) -> Response | None:
    entry = _entry_of(exc)
    if entry is None:
        return None
    extras = getattr(exc, "extras", None)
    document = problem(detail=str(exc), instance=instance, extras=extras, **entry)
    return Response(document, status=entry["status"])


def _entry_of(exc: BaseException | None) -> dict[str, Any] | None:
    """The status, the slug and the title of a declared error."""
    for kind in type(exc).__mro__:
        if entry := table().get(kind):
            return {name: entry[name] for name in ("status", "slug", "title")}
    return None


def _drf(exc: Exception, context: dict[str, Any]) -> Response | None:
    # DRF's handler sets the headers (WWW-Authenticate, Retry-After).
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    response.data = problem(response.status_code, instance=context["request"].path, **_members(exc))
    return response


def _members(exc: Exception) -> dict[str, Any]:
    if isinstance(exc, Http404):
        return {"slug": "not-found", "detail": "There is nothing here."}
    if isinstance(exc, PermissionDenied):
        return {"slug": "permission-denied", "detail": "You may not do this."}
    if isinstance(exc, exceptions.ValidationError):
        detail = exc.detail
        if not isinstance(detail, dict):
            detail = {"non_field_errors": detail}
        return {
            "slug": "validation",
            "title": "The request is not valid",
            "detail": "Some fields are missing or wrong.",
            "extras": {"errors": detail},
        }
    if isinstance(exc, exceptions.APIException):
        slug = str(exc.default_code).replace("_", "-")
        return {"slug": slug, "detail": str(exc.detail)}
    return {"detail": ""}


def respond(
    request: HttpRequest, status: int, *, slug: str, detail: str, title: str = ""
) -> HttpResponse:
    """Return the response for an error that no DRF view raised: a page for a browser, or JSON."""
    document = problem(status, slug=slug, title=title, detail=detail, instance=request.path)
    response: HttpResponse | None = import_string(settings.PROBLEM_PAGE)(request, document)
    if response is None:
        response = JsonResponse(document, status=status, content_type=CONTENT_TYPE)
    patch_vary_headers(response, ["Accept"])
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return respond(request, 400, slug="bad-request", detail="The request can't be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return respond(request, 403, slug="permission-denied", detail="You may not do this.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return respond(request, 403, slug="csrf", detail="The form has expired; load it again.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return respond(request, 404, slug="not-found", detail="There is nothing here.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls it while it handles the exception, of a view or a middleware."""
    if _is_outage(sys.exc_info()[1]):
        return unavailable(request)
    error = sys.exc_info()[1]
    if entry := _entry_of(error):  # of a page without DRF
        return respond(request, detail=str(error), **entry)
    return respond(
        request, 500, slug="server-error", detail="The server has logged an error. Try again."
    )


def unavailable(request: HttpRequest) -> HttpResponse:
    detail = "A server that this request needs doesn't answer. Try again."
    response = respond(request, 503, slug="unavailable", detail=detail)
    response["Retry-After"] = str(RETRY_SECONDS)
    return response


def _is_outage(error: BaseException | None) -> bool:
    """Whether the same request can succeed later: a server is away, starts, or isn't a primary."""
    is_demoted = isinstance(getattr(error, "__cause__", None), ReadOnlySqlTransaction)
    return is_demoted or is_transient(error)
