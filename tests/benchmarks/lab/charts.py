"""Draws a chart for each question: a technique on and off, with the spread of the rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from tests.benchmarks.drawing import FAINT, INK, LIMIT, OURS, box, document, path, text

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 720, 220, 150, 44, 34, 18
CAP: Final = 4  # half the height of the mark at the end of a spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    name: str
    on: bool  # with the technique
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    question: str
    unit: str
    bars: Sequence[Bar]


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """The charts of the parts that were measured, by file name."""
    made = {name: make(results[part]) for name, (part, make) in CHARTS.items() if results.get(part)}
    return {name: chart for name, chart in made.items() if chart.bars}


def draw(chart: Chart, *, note: str) -> str:
    """Returns the SVG document. `note` names the machine and the date."""
    highest = max((bar.high for bar in chart.bars), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / highest
    body = [text(20, 24, chart.question, weight="bold")]
    for number, bar in enumerate(chart.bars):
        body += _bar(bar, TOP + number * ROW, scale, chart.unit)
    bottom = TOP + len(chart.bars) * ROW
    body.append(text(20, bottom + 16, note, colour=FAINT))
    return document(body, width=WIDTH, height=bottom + 30)


def _bar(bar: Bar, y: float, scale: float, unit: str) -> list[str]:
    middle = y + BAR / 2
    low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
    figure = f"{bar.value:,.3g}" if bar.value < 1000 else f"{bar.value:,.0f}"
    drawn = [
        text(LEFT - 8, middle + 4, bar.name, anchor="end"),
        box(LEFT, y, bar.value * scale, BAR, OURS if bar.on else LIMIT),
        text(max(high, LEFT) + 8, middle + 4, f"{figure} {unit}".strip(), colour=FAINT),
    ]
    if bar.high > bar.low:
        drawn += [
            path([(low, middle), (high, middle)], INK, 1),
            path([(low, middle - CAP), (low, middle + CAP)], INK, 1),
            path([(high, middle - CAP), (high, middle + CAP)], INK, 1),
        ]
    return drawn


def _cost(
    question: str, figure: str, unit: str, off: str, on: str
) -> Callable[[list[Mapping[str, Any]]], Chart]:
    def make(found: list[Mapping[str, Any]]) -> Chart:
        by_case = {one["case"]: one[figure] for one in found}
        bars = [
            Bar(
                name=case,
                on=case == on,
                value=spread["median"],
                low=spread["low"],
                high=spread["high"],
            )
            for case in (off, on)
            if (spread := by_case.get(case))
        ]
        return Chart(question=question, unit=unit, bars=bars if len(bars) == 2 else [])

    return make


def _stale_own(found: list[Mapping[str, Any]]) -> Chart:
    shares: dict[str, list[float]] = {}
    for one in found:
        if one["standby"] == "delayed":
            share = 100 * one["stale_own"] / max(one["reads"], 1)
            shares.setdefault(one["case"], []).append(share)
    return Chart(
        question="How many reads of a late standby miss the reader's own write? (three mixes)",
        unit="%",
        bars=[
            Bar(name=case, on=case == "split", value=median(all_), low=min(all_), high=max(all_))
            for case, all_ in sorted(shares.items(), reverse=True)
        ],
    )


def _leases(found: list[Mapping[str, Any]]) -> Chart:
    readers = found[0]["readers"]
    return Chart(
        question=f"How often is one user loaded for {readers} readers after a change?",
        unit="loads",
        bars=[
            _plain(one["case"], one["case"] == "cache", one["loads_per_expiry"])
            for one in sorted(found, key=lambda one: -one["loads_per_expiry"])
        ],
    )


def _movement(found: list[Mapping[str, Any]]) -> Chart:
    return Chart(
        question="What share of the cached users moves when one of four nodes joins or leaves?",
        unit="%",
        bars=[
            _plain(
                f"{one['case']}, {one['event']}", one["case"] == "ring", 100 * one["moved_share"]
            )
            for one in sorted(found, key=lambda one: -one["moved_share"])
        ],
    )


def _history(found: list[Mapping[str, Any]]) -> Chart:
    longest = max(one["events"] for one in found)
    return Chart(
        question=f"How long does a read of a user with {longest:,} events take?",
        unit="ms",
        bars=[
            Bar(
                name=one["case"],
                on=one["case"] == "snapshots",
                value=one["ms"]["median"],
                low=one["ms"]["low"],
                high=one["ms"]["high"],
            )
            for one in found
            if one["events"] == longest and one["case"] in ("events", "snapshots")
        ],
    )


def _access(found: Mapping[str, Any]) -> Chart:
    names = {"single": "a request for each", "batched": "one request for all", "copy": "the copy"}
    return Chart(
        question=f"How long does a list of {found['orders']} orders with names take?",
        unit="ms",
        bars=[
            Bar(
                name=name,
                on=way == "copy",
                value=found["ms"][way]["median"],
                low=found["ms"][way]["low"],
                high=found["ms"][way]["high"],
            )
            for way, name in names.items()
            if found["ms"][way]
        ],
    )


def _plain(name: str, on: bool, value: float) -> Bar:
    return Bar(name=name, on=on, value=value, low=value, high=value)


CHARTS: Final[Mapping[str, tuple[str, Callable[[Any], Chart]]]] = {
    "split": (
        "cost",
        _cost(
            "How much of the primary's processor time does a request need?",
            *("cpu_ms", "ms", "primary", "split"),
        ),
    ),
    "token": ("consistency", _stale_own),
    "cache": (
        "cost",
        _cost(
            "How many statements does the primary run for a request?",
            *("statements", "", "primary", "cache"),
        ),
    ),
    "leases": ("leases", _leases),
    "hashing": ("movement", _movement),
    "access": ("access", _access),
    "snapshots": ("history", _history),
    "projection": (
        "cost",
        _cost(
            "How long does a request take, with and without a projection?",
            *("p50_ms", "ms", "events", "projection"),
        ),
    ),
}
