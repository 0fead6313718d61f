"""Formats the output of a run, and writes the page docs/faults.md."""

import sys
from collections.abc import Iterable, Sequence

from tests.faults.matrix.cells import (
    FAULTS,
    LEFT_OUT,
    NOTICED_BY,
    POINTS,
    QUICK,
    Cell,
    why_left_out,
)
from tests.faults.matrix.play import Result
from tests.support.surroundings import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "faults.md"


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def line(result: Result, *, number: int, of: int) -> str:
    text = f"{number:>3}/{of}  {result.cell.name:<28} {_word(result):<5} {result.seconds:5.1f} s"
    text += f"  {result.committed:>4} events"
    return text if result.green else f"{text}  {result.broken}\n         kept in {result.kept}"


def proof(name: str, whole: Result, damaged: Result) -> str:
    if not whole.green:
        return f"{name:<20} {whole.cell.name:<26} red with the safeguard too: {whole.broken}"
    outcome = f"red: {damaged.broken}" if damaged.broken else "GREEN, unnoticed"
    return f"{name:<20} {whole.cell.name:<26} green with it, without it {outcome}"


def matrix(results: Sequence[Result]) -> list[str]:
    """Return a row for each point with a column for each fault; a dot is a cell that wasn't run."""
    found = {result.cell: result for result in results}
    width = max(map(len, POINTS)) + 2
    heads = [f"{'':<{width}}{''.join(f'{fault:<12}' for fault in FAULTS)}"]
    return heads + [
        f"{point:<{width}}"
        + "".join(f"{_word(found.get(Cell(point, fault))) or '·':<12}" for fault in FAULTS)
        for point in POINTS
    ]


def summary(results: Sequence[Result], *, seed: int, seconds: float) -> str:
    red = [result for result in results if not result.green]
    events = sum(result.committed for result in results)
    counts = f"{len(results) - len(red)} of {len(results)} cells green, {events} events"
    return f"{counts}, seed {seed}, {seconds / 60:.1f} min"


def write(results: Sequence[Result], *, seed: int, seconds: float) -> None:
    DOCUMENT.write_text(
        "\n".join(_document(results, seed=seed, seconds=seconds)) + "\n", encoding="utf-8"
    )


def _word(result: Result | None) -> str:
    return "" if result is None else "green" if result.green else "RED"


def _document(results: Sequence[Result], *, seed: int, seconds: float) -> Iterable[str]:
    found = {result.cell: result for result in results}
    yield INTRODUCTION
    yield f"The last complete run: {summary(results, seed=seed, seconds=seconds)}.\n"
    yield f"| crash point | {' | '.join(FAULTS)} |"
    yield f"|---|{'---|' * len(FAULTS)}"
    for point in POINTS:
        words = (_word(found.get(Cell(point, fault))) for fault in FAULTS)
        yield f"| {point} | {' | '.join(word or '·' for word in words)} |"
    yield f"\n`--quick` runs {len(QUICK)} cells: {', '.join(f'`{name}`' for name in QUICK)}."
    yield "\n## Crash points\n\n| point | process | place |\n|---|---|---|"
    for name, point in POINTS.items():
        yield f"| {name} | {point.role} | {point.place} |"
    yield "\n## Faults\n\n| fault | description |\n|---|---|"
    for name, description in FAULTS.items():
        yield f"| {name} | {description} |"
    yield "\n## Cells that are left out\n\n| crash points | faults | reason |\n|---|---|---|"
    for points, faults, why in LEFT_OUT:
        missing = [
            (point, fault)
            for point in points.split() or POINTS
            for fault in faults.split()
            if Cell(point, fault) not in found and why_left_out(point, fault) == why
        ]
        names = ", ".join(dict.fromkeys(point for point, _ in missing)) if points else "the others"
        yield f"| {names} | {', '.join(dict.fromkeys(fault for _, fault in missing))} | {why} |"
    yield SAFEGUARDS
    for name, cells in NOTICED_BY.items():
        yield f"| {name} | {', '.join(cells)} |"


INTRODUCTION = """\
# The fault matrix

`./dev faults` runs every cell of this table; with `--write` it writes this page. A cell is a run of
the example project: real processes on real servers, with some hundreds of events that transfer
money between accounts. One process reaches a named crash point, a fault happens there, and the
process ends by `os._exit`. At the same point the same fault happens to its successor, which
continues unless the fault kills it. Then all processes must finish, and the command checks the
recorded history.
No event is lost, applied twice, out of its key's order, invented, or missing from the streams. No
money appears or is lost, in the owner's tables or in the view. The view equals a rebuild from all
committed events. No event is still parked.

```console
$ ./dev faults --quick
$ ./dev faults --seed 7 --only between-chunks/flushall
$ ./dev faults --prove
```

The cell not-replicated/failover runs `accounts` and `orders` instead, each with its own PostgreSQL
server. Customers place 200 orders, and the standby of `orders` receives only 80 of them. Then the
primary is killed, the standby is promoted, and the customers repeat their requests. Each lost order
must be disowned, each customer can order again, the credit of each customer equals the sum of the
confirmed orders, and `reconcile` repairs the orders whose cancellation is lost and nothing else.

The seed determines the load and when a fault happens at its crash point, but not how the processes
interleave. The seed, history and logs of a red cell are kept, and the run prints their folder.
Leases, chunks and batches are smaller than in production, so that faults happen between them.
PostgreSQL runs without fsync, because only its processes are killed and not the machine.
"""

SAFEGUARDS = """
## Without a safeguard

`./dev faults --prove` runs the cells that must fail without a safeguard, first with the safeguard
and then without it in every process. It tries each cell up to three times, because another
safeguard may hide the error by chance. `--without NAME` runs any cells without the safeguard NAME,
except not-replicated/failover.

| safeguard | red without it |
|---|---|"""
