"""HTTP rules of every route: bodies are read whole, redirects keep the method, 304, 412 and 429."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware import common, http
from django.utils.http import escape_leading_slashes
from rest_framework.exceptions import Throttled

from config.problems import respond

GetResponse = Callable[[HttpRequest], HttpResponse]

DRAINED_BYTES: Final = 16 * 2**20  # of a refused body; after a larger one, the connection closes
PIECE_BYTES: Final = 2**16


def whole_body(get_response: GetResponse) -> GetResponse:
    """Read the body before any other middleware or view can refuse the request.

    If a part of a body were left unread, the server would take it for the next request of the
    connection, or would close the connection although the response didn't say so.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        return _refusal(request) or get_response(request)

    return middleware


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Read the body. Return the response if the body can't be used."""
    codings = {
        coding.strip().lower()
        for header in ("Content-Encoding", "Transfer-Encoding")
        for coding in request.headers.get(header, "").split(",")
    } - {"", "identity"}
    is_chunked = "chunked" in codings
    if is_chunked and isinstance(request, WSGIRequest) and not _ends_by_itself(request):
        return _last(respond(request, 411, slug="length-required", detail="Send a Content-Length."))
    declared = int(request.META.get("CONTENT_LENGTH") or 0)
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    try:
        size = len(request.body)
    except RequestDataTooBig:
        size = most + 1
    except Exception:  # noqa: BLE001 - each server has its own errors for a malformed body
        size = -1
    if size > most:  # not every release of Django refuses a large chunked body itself
        detail = f"The body is larger than {most} bytes."
        response = respond(request, 413, slug="body-too-large", detail=detail)
        return response if declared <= DRAINED_BYTES and _drain(request) else _last(response)
    if getattr(request.META.get("gunicorn.socket"), "late", ""):
        detail = "The body didn't arrive in time."
        return _last(respond(request, 408, slug="request-timeout", detail=detail))
    if size < (0 if is_chunked else declared):
        detail = "The body is incomplete or malformed."
        return _last(respond(request, 400, slug="bad-request", detail=detail))
    request.META["CONTENT_LENGTH"] = str(size)  # DRF reads no body without it
    if size and codings - {"chunked"}:
        detail = "Send the body without a content coding such as gzip."
        response = respond(request, 415, slug="unsupported-content-coding", detail=detail)
        response["Accept-Encoding"] = "identity"
        return response
    return None


def _ends_by_itself(request: HttpRequest) -> bool:
    return bool(request.META.get("wsgi.input_terminated"))


def _drain(request: HttpRequest) -> bool:
    """Read the rest of the body, at most DRAINED_BYTES. Returns whether the body has ended."""
    if not _ends_by_itself(request):
        return True  # then the server itself reads or drops the rest
    stream = request.META["wsgi.input"]
    try:
        return any(not stream.read(PIECE_BYTES) for _ in range(DRAINED_BYTES // PIECE_BYTES))
    except Exception:  # noqa: BLE001 - see _refusal
        return False


def _last(response: HttpResponse) -> HttpResponse:
    """Close the connection after this response: the start of the next request is unknown."""
    response["Connection"] = "close"
    return response


def this_machine_only(get_response: GetResponse) -> GetResponse:
    """Refuse requests of other machines, also those that come through a proxy on this machine, and
    requests for an unknown host: a foreign page whose name leads to this machine could read
    Django's page of that error, which shows the settings."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not _is_local(request.META):
            detail = "DEBUG is on, so only this machine gets answers."
            return _last(respond(request, 403, slug="permission-denied", detail=detail))
        if not _has_known_host(request):
            detail = "The host of the request isn't in ALLOWED_HOSTS."
            return _last(respond(request, 400, slug="bad-request", detail=detail))
        return get_response(request)

    return middleware


def _has_known_host(request: HttpRequest) -> bool:
    try:
        return bool(request.get_host())
    except DisallowedHost:
        return False


def _is_local(meta: Mapping[str, Any]) -> bool:
    try:
        is_loopback = ip_address(meta.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
    return is_loopback and not {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"} & meta.keys()


def same_method(get_response: GetResponse) -> GetResponse:
    """Redirect with 308: after 301, clients repeat a POST as a GET without its body."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        is_moved = response.status_code == HTTPStatus.MOVED_PERMANENTLY
        if is_moved and request.method not in {"GET", "HEAD"}:
            response.status_code = HTTPStatus.PERMANENT_REDIRECT
        return response

    return middleware


class CommonMiddleware(common.CommonMiddleware):
    """Redirects every method to the path with its slash, for which see `same_method`."""

    def get_full_path_with_slash(self, request: HttpRequest) -> str:
        # With DEBUG on, Django's method raises RuntimeError for a POST.
        return escape_leading_slashes(request.get_full_path(force_append_slash=True))


class ConditionalGetMiddleware(http.ConditionalGetMiddleware):
    """Answers 304 to a GET whose If-None-Match names the current ETag. A response without an ETag
    gets the hash of its content."""

    def process_response(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        answer = super().process_response(request, response)
        if request.method == "GET" and answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            detail = "The representation isn't one that If-Match or If-Unmodified-Since allows."
            return respond(request, 412, slug="precondition-failed", detail=detail)
        return answer


class Throttling:
    """Answers 429 if a view that isn't DRF's raises Throttled, such as a log-in to the admin."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponse | None:
        if not isinstance(exc, Throttled):
            return None
        response = respond(request, 429, slug="throttled", detail=str(exc.detail))
        response["Retry-After"] = str(exc.wait)  # type: ignore[attr-defined]
        return response
