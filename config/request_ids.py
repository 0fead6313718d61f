"""Gives each request an id. It is in the response, in every log line, and in the trace's id.

A request starts a trace whose id is the request's id. So the events of the request, and the log
lines of all their consumers, have the same id. A request that continues a trace has the id of that
trace, unless it has an id of its own.
"""

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from uuid import uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from outbox import trace_context

HEADER: Final = "X-Request-ID"
KEY: Final = "mitosis.ids"  # in the WSGI environment: the access line is written after the response
_FORM: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")

request_id: ContextVar[str] = ContextVar("request_id", default="")


class Ids(NamedTuple):
    """A request's id, and its traceparent (W3C Trace Context)."""

    request_id: str
    traceparent: str


def ids_of(headers: Mapping[str, str], *, are_trusted: bool) -> Ids:
    """The ids in these headers if they are valid and a proxy has set them; otherwise new ones."""
    given = headers.get(HEADER, "") if are_trusted else ""
    traceparent = headers.get("traceparent", "") if are_trusted else ""
    trace_id = trace_context.trace_id(traceparent)
    found = given if _FORM.fullmatch(given) else trace_id or uuid4().hex
    return Ids(found, traceparent if trace_id else trace_context.started(found))


def identified(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Set the request's ids for the code that serves it, and answer with the id."""

    def middleware(request: HttpRequest) -> HttpResponse:
        ids = ids_of(request.headers, are_trusted=settings.REQUEST_IDS_TRUSTED)
        request.META[KEY] = ids
        token = request_id.set(ids.request_id)
        try:
            with trace_context.continued(ids.traceparent):
                response = get_response(request)
        finally:
            request_id.reset(token)
        response[HEADER] = ids.request_id
        return response

    return middleware


def current(environ: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The `request_id` and the `trace_id` of the current work, or of a request's environment."""
    ids = (environ or {}).get(KEY) or Ids(request_id.get(), trace_context.traceparent.get())
    found = {
        "request_id": ids.request_id,
        "trace_id": trace_context.trace_id(ids.traceparent),
    }
    return {name: value for name, value in found.items() if value}
