"""Reading your own writes over HTTP: a request sends a token, and a write returns a new token."""

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, OperationalError
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse

from .. import drivers, served_by
from ..events import HAS_OUTBOX, forget_last_writes
from ..homes import services
from . import reading
from .durability import flush_at_commit
from .lines import add_socket
from .reading import Reading
from .tokens import COOKIE, COOKIE_SECONDS, HEADER, Token, UnreadableToken, parse
from .watch import watch

if HAS_OUTBOX:
    from . import views

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
READS: Final = frozenset({"GET", "HEAD"})
NOT_FOUND: Final = 404


class ConsistencyToken:
    """Safe requests may read replicas. All other requests read the primary.

    A response to a write has the token in a header and, for browsers, in a cookie. A safe request
    runs again on the primary if its replica fails, or if the response is 404: the replica may not
    have the row yet. A view that reads a projection first waits for the projection (views.py).
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        connection_created.connect(flush_at_commit, dispatch_uid="placement.durability")
        connection_created.connect(add_socket, dispatch_uid="placement.lines")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forget_last_writes()
        served_by.record("")
        with reading.use(reading_of(request)) as now:
            response = self.get_response(request)
            if response.status_code == NOT_FOUND and now.replicas:
                now.from_replicas = False
                response = self.get_response(request)
            if request.method in SAFE or 400 <= response.status_code < 500:
                now.written.clear()  # a handler that refuses a command writes nothing
            set_token(response, now.renewed_token())
            for name, value in now.headers.items():
                response[name] = value
            if getattr(settings, "PLACEMENT_SERVED_BY", False) and (source := served_by.recorded()):
                response.headers.setdefault(served_by.HEADER, source)
        forget_last_writes()
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        now = reading.current()
        if not HAS_OUTBOX or now is None or request.method not in READS:
            return None
        projection = views.projection_of(view)
        return views.wait_for_projection(request, projection, now) if projection else None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        now = reading.current()
        if now is None or not now.replicas or not isinstance(exception, Error):
            return None
        if drivers.sqlstate(exception.__cause__) == drivers.QUERY_CANCELED:
            return None  # the query would take as long on the primary
        if _is_server_failure(exception):
            for alias in now.replicas:
                if replica := watch.replica(alias):
                    replica.eject(f"a query of a request failed: {str(exception).strip()}")
        now.from_replicas = False
        return _run_view_again(request)


def _is_server_failure(exception: Error) -> bool:
    """False for an invalid query, which any client can cause, and for conflicts with WAL replay."""
    code = drivers.sqlstate(exception.__cause__)
    if isinstance(exception, (OperationalError, InterfaceError)):
        return not code.startswith(drivers.ROLLED_BACK)
    # After a lost Unix socket psycopg 2 raises its base class, without an error code.
    is_of_driver = isinstance(exception.__cause__, drivers.driver.Error)
    return type(exception) is DatabaseError and is_of_driver and not code


def _run_view_again(request: HttpRequest) -> HttpResponse | None:
    """Call the view again, without the middleware, which has already run for this request."""
    if (match := request.resolver_match) is None:
        return None
    view = async_to_sync(match.func) if iscoroutinefunction(match.func) else match.func
    response: HttpResponse = view(request, *match.args, **match.kwargs)
    if hasattr(response, "render"):
        response.render()
    return response


def reading_of(request: HttpRequest) -> Reading:
    """The request's Reading, with the token of the header joined to the token of the cookie."""
    token, unreadable = Token(), False
    for text in (request.COOKIES.get(COOKIE), request.headers.get(HEADER)):
        try:
            if text:
                token = token.joined(parse(text, services=services()))
        except UnreadableToken:
            unreadable = True
    return Reading(token=token, unreadable=unreadable, from_replicas=request.method in SAFE)


def set_token(response: HttpResponse, token: Token | None) -> None:
    if token is None:
        return
    response[HEADER] = str(token)
    samesite: Any = settings.SESSION_COOKIE_SAMESITE
    response.set_cookie(
        COOKIE,
        str(token),
        max_age=COOKIE_SECONDS,
        httponly=True,
        # A browser that sends the session must send the token too.
        domain=settings.SESSION_COOKIE_DOMAIN,
        samesite=samesite,
        secure=settings.SESSION_COOKIE_SECURE,
    )
