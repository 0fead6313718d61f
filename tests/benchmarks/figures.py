"""Arithmetic of measurements."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured. Raises ValueError without any."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(ceil(percent / 100 * len(ordered)), 1) - 1]


def until_calm(values: Sequence[float], *, at_most: float) -> int | None:
    """The number of values before the first two in a row that are at most `at_most` (or before the
    last value, if only it is); None if there are none."""
    for index in range(len(values)):
        if max(values[index : index + 2]) <= at_most:
            return index
    return None


def middle(values: Iterable[float]) -> float:
    """The median, so that a single disturbed round has no effect."""
    return median(values)


def ratio(value: float, limit: float) -> float:
    """The value as a share of the limit; 0 without a limit."""
    return round(value / limit, 3) if limit else 0.0


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the owner committed it, and as the consumer must apply it."""

    key: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The number of faults between two services; all zero if there are none."""

    lost: int
    duplicated: int
    reordered: int


def judge(recorded: Iterable[Recorded], applied: Iterable[Recorded]) -> Faults:
    """Compare the committed events with the applied ones, which are in the order of application.

    An event is reordered if it was first applied after a later one of its key.
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
    """Call each measure in every round, one after the other: A B A B, not A A B B."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found
