"""Removes one safeguard at a time from a copy of the checkout, and checks that its test fails.

Run it by hand (`./dev sabotage [WORD …]`); a run takes a few minutes. A WORD selects the sabotages
with this word in their promise, file or test. The exit status is 0 only if every selected test
passes on the unchanged copy and fails on the copy without the safeguard.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Final

from tests.sabotage import (
    deploying,
    doors,
    http,
    lab,
    logins,
    logs,
    outbox,
    replicas,
    rights,
    ring,
    saga,
)
from tests.sabotage.sabotage import Sabotage

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__", "*.pyc")
AT_ONCE: Final = 2  # sabotages that run in parallel, each in its own copy
DEADLINE_SECONDS: Final = 120  # of one run of pytest
EVERY: Final = (
    *deploying.SABOTAGES,
    *outbox.SABOTAGES,
    *saga.SABOTAGES,
    *ring.SABOTAGES,
    *replicas.SABOTAGES,
    *http.SABOTAGES,
    *rights.SABOTAGES,
    *logins.SABOTAGES,
    *doors.SABOTAGES,
    *lab.SABOTAGES,
    *logs.SABOTAGES,
)


class Blunt(Exception):
    """A sabotage proves nothing: its text doesn't occur exactly once, or no sabotage was chosen."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev sabotage",
        allow_abbrev=False,
        description="Remove one safeguard at a time, and check that a test fails.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only those with this word in promise, file, test"
    )
    words = parser.parse_args(arguments).words
    chosen = [one for one in EVERY if all(word in _described(one) for word in words)]
    if not chosen:  # pytest without a test's name would run all tests
        raise Blunt(f"no sabotage has these words: {' '.join(words)}")
    survivors = 0
    with ExitStack() as copies, ThreadPoolExecutor(AT_ONCE) as players:
        trees = Queue[Path]()
        for _ in range(AT_ONCE):
            trees.put(tree := copies.enter_context(_copied()))
        if missing := _failed(tree, sorted({one.test for one in chosen}), wanted=False):
            _say(f"these tests fail without any sabotage, so they prove nothing:\n{missing}")
            return 2
        played = players.map(partial(_played, trees), chosen)
        for number, (one, (noticed, seconds)) in enumerate(zip(chosen, played, strict=True), 1):
            survivors += not noticed
            _say(
                f"{number:>2}/{len(chosen)}  {'noticed ' if noticed else 'SURVIVED'}"
                f"  {_number(one):>2}  {one.promise}  ({seconds:.0f} s)"
            )
    _say(f"{len(chosen) - survivors} of {len(chosen)} sabotages were noticed")
    return 1 if survivors else 0


def damaged(text: str, sabotage: Sabotage) -> str:
    """Return the file's text after the sabotage. Raises Blunt unless `old` occurs exactly once."""
    if (found := text.count(sabotage.old)) != 1:
        raise Blunt(
            f"{sabotage.file}: {sabotage.promise!r} replaces a text that occurs {found} times"
        )
    return text.replace(sabotage.old, sabotage.new)


def _number(one: Sabotage) -> str:
    return str(one.invariant or "-")


def _described(one: Sabotage) -> str:
    return f"{_number(one)} {one.promise} {one.file} {one.test}"


def _played(trees: Queue[Path], one: Sabotage) -> tuple[bool, float]:
    """Run one sabotage in a free copy. Return whether its test failed, and the seconds it took."""
    tree, began = trees.get(), time.monotonic()
    try:
        return _is_noticed(tree, one), time.monotonic() - began
    finally:
        trees.put(tree)


def _is_noticed(tree: Path, one: Sabotage) -> bool:
    file = tree / one.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(damaged(whole, one), encoding="utf-8")
    try:
        return bool(_failed(tree, [one.test], wanted=True))
    finally:
        file.write_text(whole, encoding="utf-8")


def _failed(tree: Path, tests: Sequence[str], *, wanted: bool) -> str:
    """Return pytest's lines about the failed tests. If failures are wanted, an error in a fixture
    or at import doesn't count as a failure."""
    done = subprocess.run(
        [
            *(str(tree / ".venv" / "bin" / "python"), "-m", "pytest", "-n", "0", "-q", "-rfE"),
            *("--tb", "no", "-o", "timeout_method=signal"),
            # Without its safeguard, a test may hang.
            *(("-o", f"timeout={DEADLINE_SECONDS // 2}") if wanted else ()),
            *tests,
        ],
        cwd=tree,
        # Two changes of a file within a second, of the same length, would share one bytecode file.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS * (1 if wanted else 4),
        check=False,
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if not wanted and done.returncode:
        return "\n".join(failures) or done.stdout
    return "\n".join(failures)


@contextmanager
def _copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mitosis-sabotage-") as folder:
        # If root runs the tests, the servers have another user, who needs access to the folder.
        Path(folder).chmod(0o755)
        tree = Path(folder, "checkout")
        shutil.copytree(CHECKOUT, tree, ignore=LEFT_OUT, symlinks=True)
        (tree / ".venv").symlink_to(CHECKOUT / ".venv")
        yield tree


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Blunt, subprocess.TimeoutExpired) as fault:
        sys.exit(f"error: {fault}")
