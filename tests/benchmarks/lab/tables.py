"""Makes the tables of a run from its results. The terminal and docs/techniques.md show the same
tables, so page and results can't differ in shape."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NOT_MEASURED: Final = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """The tables of the parts that were measured, by name."""
    return {
        name: make(results)
        for name, (parts, make) in TABLES.items()
        if all(map(results.get, parts))
    }


# -- one table for each of the four challenges ---------------------------------------------


def _consistency(results: Mapping[str, Any]) -> Table:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in results["consistency"]:
        groups.setdefault((one["case"], one["standby"]), []).append(one)
    mixes = ", ".join(one["mix"] for one in next(iter(groups.values())))
    return Table(
        title=f"Which share of the reads is stale? (reads/writes {mixes})",
        columns=(
            *("way", "standby", "reads", "stale", "stale own", "older after newer"),
            "stale at most",
        ),
        rows=[
            (
                *names,
                f"{sum(one['reads'] for one in mixed):,}",
                *(_shares(mixed, kind) for kind in ("stale", "stale_own", "older")),
                f"{max(one['oldest_ms'] for one in mixed):,.0f} ms",
            )
            for names, mixed in groups.items()
        ],
    )


def _redundancy(results: Mapping[str, Any]) -> Table:
    return Table(
        title="What does a client see while a part is dead?",
        columns=(
            *("part", "way", "failed reads", "failed writes", "of requests", "longest silence"),
            *("slowest request", "stale reads", "stale own reads"),
        ),
        rows=[
            (
                f"{one['part']}, {one['dead_seconds']:g} s",
                one["case"],
                *(f"{one[name]:,}" for name in ("failed_reads", "failed_writes", "requests")),
                f"{one['longest_silence_ms']:,} ms",
                f"{one['slowest_ms']:,} ms",
                *(f"{one[name]:,}" for name in ("stale", "stale_own")),
            )
            for one in results["failures"]
        ],
    )


def _partitioning(results: Mapping[str, Any]) -> Table:
    return Table(
        title="What moves when a node joins or leaves?",
        columns=("way", "change", "cached users that move", "share of a node"),
        rows=[
            (
                one["case"],
                f"one of {one['nodes']} nodes {one['event']}",
                f"{one['moved_share']:.1%}",
                f"{one['node_share']:.1%}",
            )
            for one in results["movement"]
        ],
    )


def _access(results: Mapping[str, Any]) -> Table:
    found = results["access"]
    names = {
        "single": f"a request for each of {found['orders']} customers",
        "batched": "one request for all customers",
        "copy": "the copy kept by events",
    }
    return Table(
        title=f"How long does a list of {found['orders']} orders with customers' names take?",
        columns=("way", "time of a list", "answers while accounts is stopped"),
        rows=[
            (text, _spread(found["ms"][way], "ms"), _yes(found["without_accounts"][way]))
            for way, text in names.items()
        ],
    )


def _cost(results: Mapping[str, Any]) -> Table:
    cost = results["cost"]
    return Table(
        title="What does a request cost? (95% reads; latencies at"
        f" {cost[0]['offered_per_second']:g} requests/s)",
        columns=(
            *("way", "requests/s at saturation", "p50", "p99", "statements on the primary"),
            *("primary's CPU", "derived limit of one core"),
        ),
        rows=[
            (
                one["case"],
                _spread(one["requests_per_second"], "/s", digits=0),
                _spread(one["p50_ms"], "ms"),
                _spread(one["p99_ms"], "ms"),
                _spread(one["statements"], ""),
                _spread(one["cpu_ms"], "ms", digits=2),
                _limit(one["cpu_ms"]),
            )
            for one in cost
        ],
    )


# -- one table for each technique: on and off ------------------------------------------------


def _pair(title: str, *cases: str) -> Callable[[Mapping[str, Any]], Table]:
    def make(results: Mapping[str, Any]) -> Table:
        table = _cost(results)
        by_case = {row[0]: row for row in table.rows}
        return Table(
            title=title,
            columns=table.columns,
            rows=[by_case[case] for case in cases if case in by_case],
        )

    return make


def _stale_pair(title: str, *cases: str) -> Callable[[Mapping[str, Any]], Table]:
    def make(results: Mapping[str, Any]) -> Table:
        table = _consistency(results)
        return Table(
            title=title, columns=table.columns, rows=[row for row in table.rows if row[0] in cases]
        )

    return make


def _leases(results: Mapping[str, Any]) -> Table:
    return Table(
        title="How often is one user loaded after each change?",
        columns=("way", "readers at once", "loads", "most loads"),
        rows=[
            (
                one["case"],
                str(one["readers"]),
                f"{one['loads_per_expiry']:g}",
                str(one["most_loads"]),
            )
            for one in results["leases"]
        ],
    )


def _storage(results: Mapping[str, Any]) -> Table:
    return Table(
        title="How many bytes does a user need?",
        columns=("way", "in PostgreSQL", "in caches"),
        rows=[
            (one["case"], f"{one['table_bytes']:,}", f"{one['cache_bytes']:,}")
            for one in results["storage"]
        ],
    )


def _history(results: Mapping[str, Any]) -> Table:
    return Table(
        title="How long does a read take, by the number of the user's events?",
        columns=("way", "events", "p50"),
        rows=[
            (one["case"], f"{one['events']:,}", _spread(one["ms"], "ms", digits=2))
            for one in results["history"]
        ],
    )


# The name of the mark in docs/techniques.md: the parts that the table needs, and the table.
TABLES: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Table]]]] = {
    "consistency": (("consistency",), _consistency),
    "redundancy": (("failures",), _redundancy),
    "storage": (("storage",), _storage),
    "partitioning": (("movement",), _partitioning),
    "access": (("access",), _access),
    "cost": (("cost",), _cost),
    "split": (
        ("cost",),
        _pair("Cost of a request: reads on the primary, and on a replica", "primary", "split"),
    ),
    "token": (
        ("consistency",),
        _stale_pair("Stale reads with a token, and without", "split", "split-without-token"),
    ),
    "cache": (
        ("cost",),
        _pair("Cost of a request: reads from the database, and from a cache", "primary", "cache"),
    ),
    "leases": (("leases",), _leases),
    "copy": (
        ("consistency",),
        _stale_pair("Stale reads with a token, and without", "copy", "copy-without-token"),
    ),
    "snapshots": (("history",), _history),
    "projection": (
        ("cost",),
        _pair(
            "Cost of a request: a state computed from events, and a projection",
            "events",
            "projection",
        ),
    ),
}


def _shares(mixed: Sequence[Mapping[str, Any]], kind: str) -> str:
    """The share of the reads in each mix; 0 only if there was no such read."""
    if not any(one[kind] for one in mixed):
        return "0"
    return ", ".join(
        f"{one[kind] / max(one['reads'], 1):.1%}" if one[kind] else "0" for one in mixed
    )


def _spread(figure: Mapping[str, float] | None, unit: str, *, digits: int = 1) -> str:
    """The median with the lowest and the highest value of the rounds."""
    if figure is None:
        return NOT_MEASURED
    low, high = (f"{figure[name]:,.{digits}f}" for name in ("low", "high"))
    space = "" if unit in ("", "/s") else " "
    text = f"{figure['median']:,.{digits}f}{space}{unit}"
    return text if low == high else f"{text} ({low} to {high})"


def _limit(cpu_ms: Mapping[str, float] | None) -> str:
    if cpu_ms is None or not cpu_ms["median"] > 0:
        return NOT_MEASURED
    return f"{1000 / cpu_ms['median']:,.0f}/s"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# -- formats -----------------------------------------------------------------------------------


def as_text(table: Table) -> str:
    """The table with aligned columns, for a terminal."""
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = [_aligned(row, widths) for row in rows]
    rule = "─" * max(map(len, lines))
    return "\n".join(["", table.title, rule, lines[0], rule, *lines[1:], ""])


def _aligned(row: Iterable[str], widths: Sequence[int]) -> str:
    first, *others = (
        f"{cell:<{width}}" if not number else f"{cell:>{width}}"
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def as_markdown(table: Table) -> str:
    lines = [f"*{table.title}*", "", _row(table.columns), _row(["---"] * len(table.columns))]
    return "\n".join([*lines, *map(_row, table.rows)]) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
