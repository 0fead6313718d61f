"""A view that reads a projection waits until it has what the client wrote, or says that it hasn't.

A view's class says what its lists are read from: `reads = "order_view"`. A route of one object
doesn't wait: it can compare what it shows with the object's own history.
"""

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.db import connections, router
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from outbox.agreeing import awaiting
from outbox.agreeing.awaiting import Answer, Awaited, Recorded
from outbox.consumer import Consumer, named

from ..homes import primary
from .reading import Reading

ProblemRenderer = Callable[..., HttpResponse]

STALE_OK: Final = "stale-ok"  # a preference (RFC 7240)
LAG: Final = "Projection-Lag"  # seconds, or "unknown"
RETRY_SECONDS: Final = 1
ANSWERS: Final = {
    Answer.BEHIND: "{projection} hasn't got your last write yet.",
    Answer.UNKNOWN: "Whether {projection} has your last write can't be told: the stream server "
    "doesn't answer.",
}


def projection_of(view: Callable[..., Any]) -> str | None:
    """What the view declares, if it isn't the route of one object."""
    if getattr(view, "initkwargs", {}).get("detail"):
        return None
    kind = getattr(view, "cls", None) or getattr(view, "view_class", None)
    return getattr(kind, "reads", None)


def awaited(request: HttpRequest, projection: str, now: Reading) -> HttpResponse | None:
    """None once the projection can be read, else what to answer instead.

    Waits for WITHIN_SECONDS at most, and not at all with `Prefer: stale-ok`. A part of the token
    that belongs to no history of this producer is dropped, and nobody waits for it.
    """
    consumer = named(projection)
    stale_ok = STALE_OK in _preferences(request)
    if now.unreadable:
        now.distrusted.update(consumer.producers)
    for producer in consumer.producers:
        answer = _look(consumer, producer, now, wait=not stale_ok)
        if not stale_ok and answer in ANSWERS:
            return _behind(request, ANSWERS[answer].format(projection=projection))
    if stale_ok:
        now.headers |= {LAG: _lag(consumer), "Preference-Applied": STALE_OK}
    return None


def _look(consumer: Consumer, producer: str, now: Reading, *, wait: bool) -> Answer:
    part = now.token.parts.get(producer)
    if part is None or part.xid is None:
        return Answer.REACHED
    it = Awaited(
        consumer,
        Recorded(producer=producer, system=part.system, timeline=part.timeline, xid=part.xid),
    )
    answer = it.look(using=router.db_for_read(consumer.tables.position))
    if answer is Answer.BEHIND and wait:
        now.from_replicas = False  # who has to wait doesn't wait for a replica as well
        answer = it.wait(using=primary(consumer.label))
    if (
        answer is Answer.BEHIND
        and producer in settings.PLACEMENT_HOMES
        and _is_to_come(part.xid, producer)
    ):
        answer = Answer.FOREIGN
    if answer is Answer.FOREIGN:
        now.distrusted.add(producer)
    return answer


def _is_to_come(xid: int, producer: str) -> bool:
    """Whether the producer's server has yet to give this transaction id."""
    with connections[primary(producer)].cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        return int(cursor.fetchone()[0]) <= xid


def _lag(consumer: Consumer) -> str:
    using = router.db_for_read(consumer.tables.position)
    lags = [
        awaiting.lag_seconds(consumer, producer, using=using) for producer in consumer.producers
    ]
    known = [lag for lag in lags if lag is not None]
    return f"{max(known):.3f}" if len(known) == len(lags) else "unknown"


def _behind(request: HttpRequest, detail: str) -> HttpResponse:
    render: ProblemRenderer = import_string(settings.PLACEMENT_PROBLEM_RENDERER)
    response = render(
        request,
        503,
        slug="projection-behind",
        title="Your last write can't be shown yet",
        detail=f"{detail} Try again, or read the older state with Prefer: {STALE_OK}.",
    )
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _preferences(request: HttpRequest) -> set[str]:
    told = request.headers.get("Prefer", "").split(",")
    return {preference.partition(";")[0].strip().lower() for preference in told}
