"""What a run says while it goes on, and the table in docs/faults.md."""

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
    told = f"{number:>3}/{of}  {result.cell.name:<28} {_word(result):<5} {result.seconds:5.1f} s"
    told += f"  {result.committed:>4} events"
    return told if result.green else f"{told}  {result.broken}\n         kept in {result.kept}"


def proof(name: str, whole: Result, damaged: Result) -> str:
    if not whole.green:
        return f"{name:<20} {whole.cell.name:<26} red with it, so it proves nothing: {whole.broken}"
    told = f"red: {damaged.broken}" if damaged.broken else "GREEN, unnoticed"
    return f"{name:<20} {whole.cell.name:<26} green with it, without it {told}"


def matrix(results: Sequence[Result]) -> list[str]:
    """Points down, faults across; a dot is a cell that wasn't run."""
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
    told = f"{len(results) - len(red)} of {len(results)} cells green, {events} events, "
    return told + f"seed {seed}, {seconds / 60:.1f} min"


def write(results: Sequence[Result], *, seed: int, seconds: float) -> None:
    DOCUMENT.write_text(
        "\n".join(_document(results, seed=seed, seconds=seconds)) + "\n", encoding="utf-8"
    )


def _word(result: Result | None) -> str:
    return "" if result is None else "green" if result.green else "RED"


def _document(results: Sequence[Result], *, seed: int, seconds: float) -> Iterable[str]:
    found = {result.cell: result for result in results}
    yield INTRODUCTION
    yield f"The last whole run: {summary(results, seed=seed, seconds=seconds)}.\n"
    yield f"| crash point | {' | '.join(FAULTS)} |"
    yield f"|---|{'---|' * len(FAULTS)}"
    for point in POINTS:
        words = (_word(found.get(Cell(point, fault))) for fault in FAULTS)
        yield f"| {point} | {' | '.join(word or '·' for word in words)} |"
    yield f"\n`--quick` runs {len(QUICK)} of them: {', '.join(f'`{name}`' for name in QUICK)}."
    yield "\n## The crash points\n\n| point | who | where |\n|---|---|---|"
    for name, point in POINTS.items():
        yield f"| {name} | {point.role} | {point.told} |"
    yield "\n## The faults\n\n| fault | what happens |\n|---|---|"
    for name, told in FAULTS.items():
        yield f"| {name} | {told} |"
    yield "\n## What is left out, and why\n\n| crash points | faults | why |\n|---|---|---|"
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

Written by `./dev faults`, which plays every cell: the stranger's shop as real processes on real
servers, some hundreds of events in transfers of money between accounts, one process brought
to a named crash point, and a fault while it is there, after which it dies by `os._exit`. Its
successor is brought to the same point and meets the same fault, and lives where that lets it. Then
everything that is left must finish, and the recorded history is judged: no event lost, applied
twice, out of its key's order, invented, or missing from the streams; no money made or lost, in the
books or in the view; the view equal to a rebuild from all that was committed; nothing left parked.

```console
$ ./dev faults --quick
$ ./dev faults --seed 7 --only between-chunks/flushall
$ ./dev faults --prove
```

A seed chooses the load and the moment within a crash point; what the processes then do to each
other is theirs. A red cell's seed, history and logs are kept, and the run names the folder. Leases
are shorter here than in use, and chunks and batches smaller, so that faults fall between them.
PostgreSQL runs without fsync: its processes die here, not the machine.
"""

SAFEGUARDS = """
## Without a safeguard

`./dev faults --prove` takes one away in every process of a run, and plays the cells that are meant
to notice, with it and without it, up to three times: one safeguard may by luck make up for
another. `--without NAME` plays cells of one's choice.

| safeguard | red without it |
|---|---|"""
