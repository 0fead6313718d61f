"""Computes figures from measured values."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the nearest-rank percentile, a measured value. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(ceil(percent / 100 * len(ordered)), 1) - 1]


def until_calm(values: Sequence[float], *, at_most: float) -> int | None:
    """Returns the number of values before the first two consecutive values that are both at most
    `at_most`. The last value may also count alone. Returns None if no such values exist."""
    for index in range(len(values)):
        if max(values[index : index + 2]) <= at_most:
            return index
    return None


def middle(values: Iterable[float]) -> float:
    """Returns the median, so that one disturbed round has no effect."""
    return median(values)


def ratio(value: float, limit: float) -> float:
    """Returns the value divided by the limit, or 0 if the limit is 0."""
    return round(value / limit, 3) if limit else 0.0


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The key and version of an event, for committed and for applied events."""

    key: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The number of faults of each kind between two services."""

    lost: int
    duplicated: int
    reordered: int


def judge(recorded: Iterable[Recorded], applied: Iterable[Recorded]) -> Faults:
    """Compares the committed events with the applied events. `applied` is in order of application.

    An event is reordered if a later event of its key was applied before its first application.
    """
    times: dict[Recorded, int] = defaultdict(int)
    newest: dict[str, int] = defaultdict(int)
    reordered = 0
    for event in applied:
        times[event] += 1
        if times[event] == 1:
            reordered += event.version < newest[event.key]
            newest[event.key] = max(newest[event.key], event.version)
    return Faults(
        lost=len(set(recorded) - times.keys()),
        duplicated=sum(number - 1 for number in times.values()),
        reordered=reordered,
    )


def by_turns(rounds: int, **measures: Any) -> dict[str, list[float]]:
    """Calls every measure once in each round: A B A B, not A A B B. Returns all values by name."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found
