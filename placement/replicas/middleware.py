"""Reading one's own writes over HTTP: the token comes in, reads obey it, a new one goes out."""

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, OperationalError
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import TransactionRollbackError

from ..events import forget_last_writes
from . import reading
from .durability import flush_at_commit
from .lines import keep_line
from .reading import Reading
from .tokens import COOKIE, COOKIE_SECONDS, HEADER, Token, UnreadableToken, parse
from .views import awaited, projection_of
from .watch import watch

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
READS: Final = frozenset({"GET", "HEAD"})
NOT_FOUND: Final = 404


class ConsistencyToken:
    """Safe requests may read replicas; every other reads the primary, where commands decide.

    Each answer to a write bears the token, in a header and for browsers in a cookie. A safe
    request is run once more on the primary when its replica fails under it, and when what was
    asked for isn't there: a replica doesn't know yet what doesn't exist. A view that reads a
    projection waits for it first (projections.py).
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        connection_created.connect(flush_at_commit, dispatch_uid="placement.durability")
        connection_created.connect(keep_line, dispatch_uid="placement.lines")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forget_last_writes()
        with reading.opened(reading_of(request)) as now:
            response = self.get_response(request)
            if response.status_code == NOT_FOUND and now.replicas:
                now.from_replicas = False
                response = self.get_response(request)
            if request.method in SAFE or 400 <= response.status_code < 500:
                now.written.clear()  # nothing was; a handler that refuses leaves nothing behind
            answer(response, now.renewed())
            for name, value in now.headers.items():
                response[name] = value
        forget_last_writes()
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        now, projection = reading.current(), projection_of(view)
        if now is None or projection is None or request.method not in READS:
            return None
        return awaited(request, projection, now)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        now = reading.current()
        if now is None or not now.replicas or not isinstance(exception, Error):
            return None
        if isinstance(exception.__cause__, QueryCanceled):
            return None  # it would take as long on the primary, which has more to do
        if _blames_the_server(exception):
            for alias in now.replicas:
                if replica := watch.replica(alias):
                    replica.put_out(f"a request failed on it: {str(exception).strip()}")
        now.from_replicas = False
        return again(request)


def _blames_the_server(exception: Error) -> bool:
    """Not a query that is wrong, which anybody may send, nor one that replay got in the way of."""
    if isinstance(exception, (OperationalError, InterfaceError)):
        return not isinstance(exception.__cause__, TransactionRollbackError)
    # A Unix socket whose server went away: psycopg2 raises its base class without an error code.
    return type(exception) is DatabaseError and getattr(exception.__cause__, "pgcode", "") is None


def again(request: HttpRequest) -> HttpResponse | None:
    """The view once more; what lies around it has done its part for this request."""
    if (match := request.resolver_match) is None:
        return None
    response: HttpResponse = match.func(request, *match.args, **match.kwargs)
    if hasattr(response, "render"):
        response.render()
    return response


def reading_of(request: HttpRequest) -> Reading:
    """What the request presents; where header and cookie differ, both hold."""
    token, unreadable = Token(), False
    for text in (request.COOKIES.get(COOKIE), request.headers.get(HEADER)):
        try:
            token = (
                token.joined(parse(text, services=settings.PLACEMENT_SERVICES)) if text else token
            )
        except UnreadableToken:
            unreadable = True
    return Reading(token=token, unreadable=unreadable, from_replicas=request.method in SAFE)


def answer(response: HttpResponse, token: Token | None) -> None:
    if token is None:
        return
    response[HEADER] = str(token)
    response.set_cookie(
        COOKIE,
        str(token),
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
