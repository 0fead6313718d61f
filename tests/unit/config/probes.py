"""Views that raise each kind of error, for the tests of error responses."""

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from psycopg2.errors import ReadOnlySqlTransaction
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from config import problems


class OnceAMinute(SimpleRateThrottle):
    rate = "1/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return "probe"


class Stale(Exception):
    extras = {"version": 7}


class StaleToo(Stale):
    """An error class that isn't declared, but whose parent class is declared."""


def demoted() -> InternalError:
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = ReadOnlySqlTransaction()
    return error


OUTAGES = {
    "refused": OperationalError("connection refused"),
    "closed": InterfaceError("connection already closed"),
    "demoted": demoted(),
}


class Body(serializers.Serializer[dict[str, object]]):
    amount = serializers.DecimalField(max_digits=8, decimal_places=2)


class Open(APIView):
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        raise {
            "missing": Http404("row 7 of the table secrets"),
            "denied": PermissionDenied("only for Ada"),
            "declared": Stale("Version 3 is not the current one."),
            "declared-by-parent": StaleToo("Version 3 is not the current one."),
            "unknown": ZeroDivisionError("the password is tulip"),
            **OUTAGES,
        }[request.query_params["how"]]

    def post(self, request: Request) -> Response:
        body = Body(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)


class Closed(Open):
    permission_classes = (IsAuthenticated,)


class Throttled(Open):
    throttle_classes = (OnceAMinute,)

    def get(self, request: Request) -> Response:
        return Response({})


def plain(request: HttpRequest) -> HttpResponse:
    raise {
        "missing": Http404("row 7"),
        "denied": PermissionDenied("only for Ada"),
        "bad": BadRequest("what?"),
        "suspicious": SuspiciousOperation("who?"),
        "unknown": ZeroDivisionError("the password is tulip"),
        **OUTAGES,
    }[request.GET["how"]]


urlpatterns = [
    path("open/", Open.as_view()),
    path("closed/", Closed.as_view()),
    path("throttled/", Throttled.as_view()),
    path("plain/", plain),
    path("", include("config.urls")),
]
handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error
