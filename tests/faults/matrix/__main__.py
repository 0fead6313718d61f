"""`./dev faults [--quick] [--seed N] [--only CELL …] [--without NAME] [--write] [--prove]`."""

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Sequence

from tests.faults.matrix import report
from tests.faults.matrix.cells import CELLS, FAULTS, NOTICED_BY, POINTS, TABLE, Cell, chosen
from tests.faults.matrix.play import Result, play
from tests.faults.matrix.stage import Stage, open_stage

LONGEST_RUN_SECONDS = 45 * 60.0
TRIES = 3  # attempts per removed safeguard: by chance, another safeguard may hide the loss


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    with open_stage() as stage:
        if options.prove:
            return _prove(stage, seed=options.seed)
        cells = chosen(options.only, quick=options.quick)
        if options.without:  # the processes of this cell run the unchanged code
            cells = [cell for cell in cells if cell.fault != "failover"]
        return _run(stage, cells, seed=options.seed, without=options.without, write=options.write)


def _run(stage: Stage, cells: list[Cell], *, seed: int, without: str, write: bool) -> int:
    started = time.monotonic()
    report.say(f"{len(cells)} cells, seed {seed}{without and f', without {without}'}")
    results: list[Result] = []
    for number, cell in enumerate(cells, start=1):
        result = play(stage, cell, seed=seed, without=without)
        results.append(result)
        report.say(report.line(result, number=number, of=len(cells)))
        if time.monotonic() - started > LONGEST_RUN_SECONDS:
            report.say(f"stopped at the time limit: {len(cells) - number} cells were not run")
            break
    seconds = time.monotonic() - started
    report.say("", *report.matrix(results), "")
    report.say(report.summary(results, seed=seed, seconds=seconds))
    if write and len(results) == len(CELLS) and not without:
        report.write(results, seed=seed, seconds=seconds)
    return 0 if all(result.green for result in results) and len(results) == len(cells) else 1


def _prove(stage: Stage, *, seed: int) -> int:
    """Runs each safeguard's cells with the safeguard and without the safeguard."""
    unnoticed = 0
    for name, cells in NOTICED_BY.items():
        for cell in chosen(list(cells), quick=False):
            for again in range(TRIES):
                whole = play(stage, cell, seed=seed + again)
                damaged = play(stage, cell, seed=seed + again, without=name)
                report.say(report.proof(name, whole, damaged))
                if not whole.green or not damaged.green:
                    break
            unnoticed += not whole.green or damaged.green
    report.say(f"{unnoticed} removals were missed" if unnoticed else "every removal was noticed")
    return 1 if unnoticed else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    table = "\n".join(f"  {point}: {faults}" for point, faults in TABLE.items())
    parser = argparse.ArgumentParser(
        prog="./dev faults",
        allow_abbrev=False,
        description="Run each crash point with each fault.",
        epilog=f"crash points and their faults:\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="run only a fast subset")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), metavar="N")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CELL", help="POINT/FAULT, POINT or FAULT"
    )
    parser.add_argument("--without", default="", choices=list(NOTICED_BY), metavar="SAFEGUARD")
    parser.add_argument("--write", action="store_true", help="also write docs/faults.md")
    parser.add_argument(
        "--prove", action="store_true", help="remove each safeguard and check that a cell fails"
    )
    options = parser.parse_args(arguments)
    known = {*POINTS, *FAULTS, *(cell.name for cell in CELLS)}
    if unknown := set(options.only) - known:
        parser.error(
            f"unknown cell, point or fault: {', '.join(sorted(unknown))}; expected a crash point, a"
            f" fault, or both as POINT/FAULT:\n{table}"
        )
    return options


if __name__ == "__main__":
    # SIGTERM ends the run with an exception, so that the run stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
