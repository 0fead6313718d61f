"""The history of each service: a row of figures every ten seconds, for a day."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from outbox import tables

from ..models import Sample
from .status import measured

State = dict[str, Any]
Series = list[float | None]

EVERY_SECONDS: Final = 10.0
KEPT: Final = timedelta(days=1)
SHOWN: Final = timedelta(hours=1)
GAP_SECONDS: Final = 30.0  # after a longer pause there is no rate, and the line is broken
TREND: Final = timedelta(minutes=5)  # compared with the same time before
STEADY_SECONDS: Final = 1.0  # a smaller difference is no trend
# The fields of a service's history, which another deployment checks.
SERIES: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("at", "recorded", "published", "oldest"), list),
    **dict.fromkeys(("consumers", "trends"), dict),
}


def clock() -> datetime:
    return timezone.now()


def sample(label: str) -> None:
    """Store the figures of a service now, unless this interval has a row. Deletes old rows."""
    at = clock().timestamp()
    state = measured(tables.of(label))
    if state["database"]:
        slot = datetime.fromtimestamp(at // EVERY_SECONDS * EVERY_SECONDS, UTC)
        row = Sample(service=label, at=slot, figures={"at": at, **_figures(state)})
        Sample.objects.bulk_create([row], ignore_conflicts=True)
    Sample.objects.filter(at__lt=clock() - KEPT).delete()


def _figures(state: State) -> State:
    outbox = state["outbox"]
    return {
        "recorded": outbox["recorded"],
        "published": state["streams"]["published"],
        "unpublished": outbox["unpublished"],
        "oldest": outbox["oldest_unpublished_seconds"],
        "consumers": {
            f"{consumer['subscriber']} ← {consumer['producer']}": [
                consumer["lag_events"],
                consumer["lag_seconds"],
                consumer["parked"],
            ]
            for consumer in state["consumers"]
        },
    }


def of_deployment() -> State:
    """The last hour of each service of this deployment, for the charts."""
    since = clock() - SHOWN
    found: dict[str, list[Sample]] = {service: [] for service in settings.SERVICES}
    for row in Sample.objects.filter(at__gte=since, service__in=found).order_by("at"):
        found[row.service].append(row)
    return {service: _series(rows) for service, rows in found.items()}


def _series(rows: Sequence[Sample]) -> State:
    figures = [row.figures for row in rows]
    times = [each["at"] for each in figures]
    names = sorted({name for each in figures for name in each["consumers"]})
    lags = {
        name: [each["consumers"].get(name, (None, None, None))[1] for each in figures]
        for name in names
    }
    return {
        "at": times,
        "recorded": _rates(times, [each["recorded"] for each in figures]),
        "published": _rates(times, [each["published"] for each in figures]),
        "oldest": [_oldest(each) for each in figures],
        "consumers": lags,
        "trends": {name: trend(times, lag) for name, lag in lags.items()},
    }


def _oldest(figures: State) -> float | None:
    """The age of the oldest unpublished row: 0 without such a row, None if it is unknown."""
    oldest: float | None = figures["oldest"]
    return 0.0 if figures["unpublished"] == 0 else oldest


def _rates(times: Sequence[float], totals: Sequence[int | None]) -> Series:
    """The change of each total per second; None after a gap, and after a total that was reset."""
    rates: Series = [None] if times else []
    for number in range(1, len(times)):
        before, total = totals[number - 1], totals[number]
        seconds = times[number] - times[number - 1]
        is_known = before is not None and total is not None and seconds <= GAP_SECONDS
        change = total - before if is_known and total is not None and before is not None else -1
        rates.append(round(change / seconds, 2) if change >= 0 else None)
    return rates


def trend(times: Sequence[float], lag: Sequence[float | None]) -> str:
    """`rising`, `falling` or `steady`: the mean lag of the last minutes, compared with the mean of
    the same time before. Empty if there are too few values."""
    middle = clock().timestamp() - TREND.total_seconds()
    start = middle - TREND.total_seconds()
    known = [(at, each) for at, each in zip(times, lag, strict=True) if each is not None]
    late = [each for at, each in known if at > middle]
    early = [each for at, each in known if start < at <= middle]
    if not late or not early:
        return ""
    change = fmean(late) - fmean(early)
    if abs(change) < STEADY_SECONDS:
        return "steady"
    return "rising" if change > 0 else "falling"
