"""Draws the results as one SVG: bars next to their limits, and latencies by percentile."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.drawing import FAINT, HELD, INK, LIMIT, OURS, box, document, path, text

WIDTH, ROW, LEFT, RIGHT = 860, 22, 300, 110


def render(results: Mapping[str, Any]) -> str:
    """Returns the SVG document, without the parts that were not measured."""
    body: list[str] = []
    top = 20
    for name, draw in PANELS.items():
        if results.get(name):
            lines, height = draw(results[name], top)
            body += lines
            top += height + 24
    machine = results["machine"]
    body.append(
        text(
            20,
            top,
            f"{machine['cpu']}, {machine['cores']} cores; PostgreSQL {machine['postgresql']},"
            f" Valkey {machine['valkey']}; synchronous_commit on, AOF everysec",
            colour=FAINT,
        )
    )
    return document(body, width=WIDTH, height=top + 20)


Row = tuple[str, float, float, str]  # name, figure, limit, label


def _bars(title: str, rows: Sequence[Row], top: int) -> tuple[list[str], int]:
    widest = max(max(figure, limit) for _, figure, limit, _ in rows) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / widest
    drawn = [text(20, top + 6, title, weight="bold")]
    for number, (name, figure, limit, label) in enumerate(rows):
        y = top + 18 + number * ROW
        drawn.append(text(LEFT - 8, y + 13, name, anchor="end"))
        drawn.append(box(LEFT, y, limit * scale, ROW - 4, LIMIT))
        drawn.append(box(LEFT, y + 4, figure * scale, ROW - 12, OURS))
        drawn.append(text(LEFT + max(figure, limit) * scale + 6, y + 13, label, colour=FAINT))
    return drawn, 18 + len(rows) * ROW


def _relay(found: Sequence[Mapping[str, Any]], top: int) -> tuple[list[str], int]:
    rows = [
        (
            _name_of(one),
            float(one["events_per_second"]),
            float(one["limit_events_per_second"]),
            f"{one['events_per_second'] / 1000:.0f}k/s  {one['ratio']:.2f}×",
        )
        for one in found
    ]
    return _bars("Relay, events a second (grey: raw pipelined XADD)", rows, top)


def _name_of(one: Mapping[str, Any]) -> str:
    behind = f" behind {_short(one['retained'])}" if one["retained"] else ""
    return f"{_short(one['backlog'])} waiting{behind}{', one held' * one['held_transaction']}"


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _end_to_end(found: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    """Draws the latency by percentile."""
    height = 150
    curves = [(found["percentiles_ms"], OURS, "")]
    if held := found.get("held_transaction"):
        curves.append((held["percentiles_ms"], HELD, "with a transaction held open"))
    longest = max(max(values[:99]) for values, _, _ in curves) or 1.0
    across, floor = WIDTH - LEFT - RIGHT, top + 24 + height
    title = f"End to end at {found['offered_per_second']} events/s: ms from commit to commit"
    drawn = [text(20, top + 6, title, weight="bold")]
    for rank in (0, 25, 50, 75, 99):
        x = LEFT + across * rank / 99
        drawn.append(path([(x, top + 24), (x, floor)], LIMIT, 1))
        drawn.append(text(x, floor + 16, f"p{rank}", anchor="middle", colour=FAINT))
    drawn += [
        text(LEFT - 8, floor - share * height + 4, f"{longest * share:.1f} ms", anchor="end")
        for share in (0, 0.5, 1)
    ]
    for number, (values, colour, name) in enumerate(curves):
        points = [
            (LEFT + across * rank / 99, floor - height * min(value / longest, 1.0))
            for rank, value in enumerate(values[:99], start=1)
        ]
        drawn.append(path(points, colour, 2))
        drawn.append(text(20, top + 40 + number * 18, name, colour=colour))
    return drawn, 24 + height + 20


def _consumer(found: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    names = ("classic", "orm", "single", "two_processes", "batch")
    titles = ("classic inbox", "update_or_create, ours", "single", "single, two processes", "batch")
    rows = [
        (
            title,
            float(found[f"{name}_events_per_second"]),
            0.0,
            f"{found[f'{name}_events_per_second']:,}/s",
        )
        for name, title in zip(names, titles, strict=True)
    ]
    return _bars("Consumer, events a second", rows, top)


def _write_overhead(found: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    rows = [
        (
            f"{one['transaction'].replace('_', ' ')}, {one['clients']} at once",
            float(one["ratio"]),
            1.0,
            f"{one['ratio']:.2f}×",
        )
        for one in found["runs"]
    ]
    return _bars("A transaction with its outbox row, relative to one without", rows, top)


def _ring(found: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    rows = [
        (f"look-ups, {one['nodes']} nodes; uhashring", float(one["ratio"]), 1.0, one["ratio"])
        for one in found["lookups"]
    ]
    rows += [
        (f"{one['operation']}; RedisCache, one node", float(one["ratio"]), 1.0, one["ratio"])
        for one in found["many"]
    ]
    return _bars(
        "Cache ring, relative to the named alternative",
        [(name, figure, limit, f"{share:.2f}×") for name, figure, limit, share in rows],
        top,
    )


def _retention(found: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    """Draws retained data over time: counts in the upper chart, megabytes in the lower chart."""
    samples = found["samples"]
    title = (
        f"{found['events']:,} events at {found['offered_per_second']:,}/s,"
        f" kept for {found['retention_seconds']:g} s"
    )
    drawn, height = [text(20, top + 6, title, weight="bold")], 24
    for lines in (
        (("rows", OURS, "rows"), ("entries", HELD, "entries")),
        (
            ("table_mb", OURS, "MB tables"),
            ("index_mb", INK, "MB indexes"),
            ("streams_mb", HELD, "MB streams"),
        ),
    ):
        drawn += _over_time(samples, lines, top + height)
        height += 140
    return drawn, height


def _over_time(
    samples: Sequence[Mapping[str, float]], lines: Sequence[tuple[str, str, str]], top: int
) -> Iterator[str]:
    height, across = 110, WIDTH - LEFT - RIGHT
    end = samples[-1]["seconds"] or 1.0
    highest = max(one[name] for one in samples for name, _, _ in lines) or 1.0
    floor = top + height
    yield path([(LEFT, floor), (LEFT + across, floor)], LIMIT, 1)
    yield text(LEFT - 8, top + 8, _short(round(highest)), anchor="end")
    yield text(LEFT - 8, floor + 4, "0", anchor="end")
    yield text(LEFT + across, floor + 16, f"{end:.0f} s", anchor="end", colour=FAINT)
    for number, (name, colour, label) in enumerate(lines):
        points = [
            (LEFT + across * one["seconds"] / end, floor - height * one[name] / highest)
            for one in samples
        ]
        yield path(points, colour, 2)
        yield text(20, top + 24 + number * 18, label, colour=colour)


PANELS = {
    "relay": _relay,
    "end_to_end": _end_to_end,
    "consumer": _consumer,
    "write_overhead": _write_overhead,
    "retention": _retention,
    "ring": _ring,
}
