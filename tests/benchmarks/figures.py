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
    """How many values it takes until two in a row are no higher than that (one, if it is the
    last); None if that never happens."""
    for index in range(len(values)):
        if max(values[index : index + 2]) <= at_most:
            return index
    return None


def middle(values: Iterable[float]) -> float:
    """The median, so that one disturbed round decides nothing."""
    return median(values)


def ratio(value: float, limit: float) -> float:
    """How much of the limit was reached; 0 where there was none."""
    return round(value / limit, 3) if limit else 0.0


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the owner committed it, and as its key's consumer must meet it."""

    key: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What became of events between two services; nothing, if all is well."""

    lost: int
    duplicated: int
    reordered: int


def judge(recorded: Iterable[Recorded], applied: Iterable[Recorded]) -> Faults:
    """Compare what was committed with what was applied, in the order in which it was applied.

    Reordered is an event that came after a later one of its key, each counted at its first
    application.
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
