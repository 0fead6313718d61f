"""`./dev bench [--quick] [--json FILE] [--svg FILE] [--write] [--only NAME …]`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from stack.environment import CHECKOUT
from stack.errors import StackError
from tests.benchmarks import (
    admin,
    consumers,
    document,
    end_to_end,
    flow,
    machine,
    many,
    overhead,
    page,
    plot,
    rebuild,
    relay,
    retention,
    ring,
    ring_events,
    store,
)
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import SCALES, Scale
from tests.support.environments import folder_with_psycopg3

ROOT: Final = CHECKOUT / ".local" / "bench"

FAULTS: Final = (
    *end_to_end.FAULTS,
    *("failed_reads", "empty_reads", "failed_writes", "rows_that_differ", "older_reads"),
)

Part = Callable[[Ground, Scale, Progress], Any]
# The parts run in this order: the last part starts a standby, which would slow down the others.
PARTS: Final[dict[str, Part]] = {
    "write_overhead": overhead.measure,
    "record_many": many.measure,
    "event_store": store.measure,
    "admin": admin.measure,
    "rebuild": rebuild.measure,
    "consumer": consumers.measure,
    "relay": relay.measure,
    "retention": retention.measure,
    "ring": ring.measure,
    "ring_events": ring_events.measure,
    "flow": flow.measure,
    "end_to_end": end_to_end.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 if all parts were measured and none had a fault."""
    options = _parser().parse_args(arguments)
    if options.psycopg3 and find_spec("psycopg") is None:
        os.environ["PYTHONPATH"] = str(folder_with_psycopg3())
        again = [sys.executable, "-m", str(__package__), *arguments]
        os.execv(sys.executable, again)  # noqa: S606 - this program again
    results: dict[str, Any] = {}
    try:
        scale = SCALES[options.scale]
        names = options.only or [name for name in PARTS if name not in scale.when_named]
        run(scale, names, root=options.root, results=results)
    except (StackError, machine.NotDurable, RuntimeError, AssertionError) as error:
        _show(results)
        sys.stderr.write(f"error: {error}; see {options.root / 'log'}\n")
        return 1
    except KeyboardInterrupt:
        _show(results)
        return 130
    sys.stdout.write(page.render(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(plot.render(results))
    if options.write:
        flags = ["--quick"] if options.scale == "quick" else []
        flags += ["--psycopg3"] if options.psycopg3 else []
        only = ["--only", *options.only] if options.only else []
        document.write(results, command=" ".join(["./dev bench", *flags, *only]))
    return 1 if faults(results) else 0


def _show(results: dict[str, Any]) -> None:
    """Prints the results of a failed run, if the run has results."""
    if results.keys() & PARTS.keys():
        sys.stdout.write(page.render(results))


def run(scale: Scale, names: Sequence[str], *, root: Path, results: dict[str, Any]) -> None:
    """Measures these parts into `results`, and deletes the servers' data in `root` at the end."""
    progress = Progress(sys.stderr)
    ground = Ground(root)
    finished = False
    try:
        progress.begin("servers", steps=1)
        ground.start()
        results |= {
            "scale": scale.name,
            "machine": machine.describe(ground),
            "durability": machine.durability(ground),
            "others_busy_cores": {},
        }
        for name, measure in PARTS.items():
            if name in names:
                results["others_busy_cores"][name] = machine.others_busy(scale.look_seconds)
                results[name] = measure(ground, scale, progress)
        finished = True
    finally:
        progress.end()
        ground.stop(keep_logs=not finished)


def faults(results: dict[str, Any]) -> int:
    """Returns the number of faults in all parts: events lost, duplicated or reordered, without and
    with an open transaction; failed or empty reads and wrong rows in a rebuild; wrong rows in the
    retention part; and failed or older reads while nodes of the ring changed."""
    found = results.get("end_to_end") or {}
    runs = [found, found.get("held_transaction") or {}]
    runs += [results.get(name) or {} for name in ("rebuild", "retention", "ring_events")]
    return sum(run.get(name, 0) for run in runs for name in FAULTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        allow_abbrev=False,
        description="Measure outbox and ring on private servers, each figure next to its limit.",
    )
    parser.set_defaults(scale="full")  # set here: argparse would use the first option's default
    scales = parser.add_mutually_exclusive_group()
    scales.add_argument(
        "--quick",
        dest="scale",
        action="store_const",
        const="quick",
        help="only outbox and event store, about a minute",
    )
    scales.add_argument("--scale", choices=SCALES, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write one JSON object")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw a plot")
    parser.add_argument("--write", action="store_true", help="also into docs/benchmarks.md")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--psycopg3", action="store_true", help="with this driver, by TCP")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
