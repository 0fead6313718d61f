"""`./dev lab [--quick] [--only WAY …] [--json FILE] [--svg FOLDER] [--write]`."""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from stack.environment import CHECKOUT
from stack.errors import StackError
from tests.benchmarks import machine
from tests.benchmarks.lab import (
    access,
    charts,
    consistency,
    document,
    failures,
    history,
    leases,
    load,
    movement,
    storage,
    tables,
    verdicts,
)
from tests.benchmarks.lab.cases import CASES, WAYS, Case
from tests.benchmarks.lab.ground import DELAY_MS, LabGround
from tests.benchmarks.lab.scale import SCALES, LabScale
from tests.benchmarks.progress import Progress

ROOT: Final = CHECKOUT / ".local" / "lab"

Part = Callable[[LabGround, LabScale, Progress, list[Case]], Any]
# The parts run in this order. The first part creates the users and caches them for a long time; so
# `movement` follows. The parts that write most come late: a user's history makes reads slower.
PARTS: Final[dict[str, Part]] = {
    "storage": storage.measure,
    "movement": movement.measure,
    "cost": load.measure,
    "history": history.measure,
    "leases": leases.measure,
    "consistency": consistency.measure,
    "failures": failures.measure,
    "access": access.measure,
}
# A part that measures only some ways.
PARTS_OF: Final[dict[str, frozenset[str]]] = {
    "history": frozenset({"event-driven"}),
    "leases": frozenset({"centralized"}),
    "movement": frozenset({"decentralized"}),
    "access": frozenset({"decentralized"}),
}


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 if all parts were measured and every promise was kept."""
    options = _arguments(arguments)
    results: dict[str, Any] = {}
    try:
        run(SCALES[options.scale], options.only or WAYS, root=options.root, results=results)
    except (StackError, machine.NotDurable, RuntimeError, AssertionError) as error:
        _show(results)
        sys.stderr.write(f"error: {error}; see {options.root / 'log'}\n")
        return 1
    except KeyboardInterrupt:
        _show(results)
        return 130
    results["command"] = " ".join(["./dev lab", *(["--quick"] * (options.scale == "quick"))])
    _show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.svg:
        options.svg.mkdir(exist_ok=True)
        for name, chart in charts.charts(results).items():
            drawn = charts.draw(chart, note=document.note(results))
            (options.svg / f"{name}.svg").write_text(drawn)
    if options.write:
        document.write(results)
    return 0 if all(verdict.kept for verdict in verdicts.judge(results)) else 1


def run(scale: LabScale, ways: Sequence[str], *, root: Path, results: dict[str, Any]) -> None:
    """Measures these ways into `results`, and deletes the servers' data in `root` at the end."""
    progress = Progress(sys.stderr)
    ground = LabGround(root)
    cases = [case for case in CASES if case.way in ways]
    finished = False
    try:
        progress.begin("servers", steps=1)
        progress.step("a primary, two standbys, streams and a ring")
        ground.start()
        results |= {
            "scale": scale.name,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": machine.describe(ground),
            "durability": machine.durability(ground),
            "users": scale.users,
            "clients": scale.clients,
            "rounds": scale.rounds,
            "delay_ms": DELAY_MS,
            "others_busy_cores": {},
        }
        for name, measure in PARTS.items():
            if PARTS_OF.get(name, frozenset(ways)).intersection(ways):
                results["others_busy_cores"][name] = machine.others_busy(scale.look_seconds)
                results[name] = measure(ground, scale, progress, cases)
        finished = True
    finally:
        progress.end()
        ground.stop(keep_logs=not finished)


def _show(results: dict[str, Any]) -> None:
    """Prints the tables of the parts that were measured, then the promises."""
    for table in tables.tables(results).values():
        sys.stdout.write(tables.as_text(table))
    judged = verdicts.judge(results)
    broken = [verdict for verdict in judged if not verdict.kept]
    sys.stdout.write(f"\n{len(judged) - len(broken)} of {len(judged)} promises kept\n")
    for verdict in broken:
        sys.stdout.write(f"broken: {verdict.promise}; found {verdict.found}\n")


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev lab",
        allow_abbrev=False,
        description="Measure each way of managing data with its techniques on and off.",
    )
    parser.set_defaults(scale="full")
    scales = parser.add_mutually_exclusive_group()
    scales.add_argument(
        "--quick",
        dest="scale",
        action="store_const",
        const="quick",
        help="small loads, about a minute; the figures vary",
    )
    scales.add_argument("--scale", choices=SCALES, help=argparse.SUPPRESS)
    parser.add_argument(
        "--only", nargs="+", choices=WAYS, metavar="WAY", help=f"of {', '.join(WAYS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write one JSON object")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="also draw a chart per question")
    parser.add_argument("--write", action="store_true", help="also into docs/techniques.md")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write needs the figures of all ways: leave out --only")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
