"""A view waits until its projection has the client's own writes, or answers 503.

A view's class declares the projection of its lists: `reads = "order_view"`. A route of one object
doesn't wait, because its view can compare the row with the object's own history.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import connections, router
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.module_loading import import_string

from ..events import outbox
from ..homes import homes, primary
from .reading import Reading

if TYPE_CHECKING:
    from outbox.agreeing import awaiting
    from outbox.agreeing.awaiting import Answer, ProjectionWait, Recorded
    from outbox.consumer import Consumer, named
else:  # the project may have the outbox under another name
    awaiting = outbox("agreeing.awaiting")
    Answer, ProjectionWait = awaiting.Answer, awaiting.ProjectionWait
    Recorded, named = awaiting.Recorded, outbox("consumer").named

ProblemRenderer = Callable[..., HttpResponse]

STALE_OK: Final = "stale-ok"  # a preference (RFC 7240)
LAG: Final = "Projection-Lag"  # seconds, or "unknown"
RETRY_SECONDS: Final = 1
ANSWERS: Final = {
    Answer.BEHIND: "{projection} doesn't have your last write yet.",
    Answer.UNKNOWN: "Whether {projection} has your last write is unknown: the stream server "
    "doesn't answer.",
}


def projection_of(view: Callable[..., Any]) -> str | None:
    """The projection that the view declares; None for a route of one object."""
    if getattr(view, "initkwargs", {}).get("detail"):
        return None
    kind = getattr(view, "cls", None) or getattr(view, "view_class", None)
    return getattr(kind, "reads", None)


def wait_for_projection(request: HttpRequest, projection: str, now: Reading) -> HttpResponse | None:
    """Wait for the projection. Returns None if it can be read, otherwise the response 503.

    The wait takes at most WITHIN_SECONDS; `Prefer: stale-ok` avoids the wait. A part of the token
    that isn't of this producer's history is replaced without a wait.
    """
    consumer = named(projection)
    stale_ok = STALE_OK in _preferences(request)
    if now.unreadable:
        now.distrusted.update(consumer.producers)
    for producer in consumer.producers:
        answer = _check(consumer, producer, now, wait=not stale_ok)
        if not stale_ok and answer in ANSWERS:
            return _behind(request, ANSWERS[answer].format(projection=projection))
    if stale_ok:
        now.headers |= {LAG: _lag(consumer), "Preference-Applied": STALE_OK}
    return None


def _check(consumer: "Consumer", producer: str, now: Reading, *, wait: bool) -> "Answer":
    part = now.token.parts.get(producer)
    if part is None or part.xid is None:
        return Answer.REACHED
    awaited = ProjectionWait(
        consumer,
        Recorded(producer=producer, system=part.system, timeline=part.timeline, xid=part.xid),
    )
    answer = awaited.check(using=router.db_for_read(consumer.tables.position))
    if answer is Answer.BEHIND and wait:
        now.from_replicas = False  # so that the request doesn't also wait for a replica
        answer = awaited.wait(using=primary(consumer.label))
    if answer is Answer.BEHIND and producer in homes() and _is_unassigned(part.xid, producer):
        answer = Answer.FOREIGN
    if answer is Answer.FOREIGN:
        now.distrusted.add(producer)
    return answer


def _is_unassigned(xid: int, producer: str) -> bool:
    """Whether the producer's server hasn't assigned this transaction id yet."""
    with connections[primary(producer)].cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        return int(cursor.fetchone()[0]) <= xid


def _lag(consumer: "Consumer") -> str:
    using = router.db_for_read(consumer.tables.position)
    lags = [
        awaiting.lag_seconds(consumer, producer, using=using) for producer in consumer.producers
    ]
    known = [lag for lag in lags if lag is not None]
    return f"{max(known):.3f}" if len(known) == len(lags) else "unknown"


def _behind(request: HttpRequest, detail: str) -> HttpResponse:
    path = getattr(settings, "PLACEMENT_PROBLEM_RENDERER", "")
    render: ProblemRenderer = import_string(path) if path else _problem
    response = render(
        request,
        503,
        slug="projection-behind",
        title="Your last write can't be shown yet",
        detail=f"{detail} Try again, or read the older state with Prefer: {STALE_OK}.",
    )
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _problem(
    request: HttpRequest, status: int, *, slug: str, title: str, detail: str
) -> HttpResponse:
    """The problem document (RFC 9457) of a project without PLACEMENT_PROBLEM_RENDERER."""
    problem = {"type": f"urn:problem:{slug}", "status": status, "title": title, "detail": detail}
    return JsonResponse(problem, status=status, content_type="application/problem+json")


def _preferences(request: HttpRequest) -> set[str]:
    preferences = request.headers.get("Prefer", "").split(",")
    return {preference.partition(";")[0].strip().lower() for preference in preferences}
