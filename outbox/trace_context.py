"""The W3C Trace Context of the current work: of a request, a task, or an event that is handled.

Your own code sets `traceparent` for a request or a task, if it wants its events to belong to a
trace. The recorder stores it in the events, and each consumer sets it while it handles an event.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

traceparent: ContextVar[str] = ContextVar("outbox_traceparent", default="")


def trace_id(text: str | None) -> str:
    """The trace's id in a traceparent; '' if the text isn't a traceparent of version 00."""
    found = _FORM.fullmatch(text or "")
    return found[1] if found else ""


def started(trace_id: str) -> str:
    """A traceparent that starts the trace with this id, which has 32 hexadecimal digits."""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


@contextmanager
def continued(text: str | None) -> Iterator[None]:
    """Set the traceparent, none for an empty text, and restore the previous one at the end."""
    token = traceparent.set(text or "")
    try:
        yield
    finally:
        traceparent.reset(token)
