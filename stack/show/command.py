"""The verb `./dev show`."""

import signal
import sys
import time
from pathlib import Path

import psycopg2

from ..errors import StackError
from ..terminal import show
from .narration import Untrue, claim, does, section, title
from .pauses import undo_at_signals
from .stage import Stage
from .techniques import TECHNIQUES

UNKNOWN = 2  # exit status


def run(root: Path, name: str | None, *, without: bool) -> int:
    """List the techniques, or show one on the running stack; return the exit status.

    Raises StackError if the stack is down, or doesn't do what the show claims.
    """
    if name is None and not without:
        width = max(map(len, TECHNIQUES))
        for known, technique in TECHNIQUES.items():
            show(f"{known:<{width}}  {technique.sentence}")
        return 0
    if name is None or name not in TECHNIQUES:
        wrong = f"unknown technique {name}" if name else "--without needs a technique"
        sys.stderr.write(f"error: ./dev show: {wrong}; techniques: {', '.join(TECHNIQUES)}\n")
        return UNKNOWN
    stage = Stage(root)
    undo_at_signals()
    try:
        _show(name, stage, without=without)
    except (Untrue, psycopg2.Error) as error:
        raise StackError(f"show {name}: {' '.join(str(error).split())}") from error
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _show(name: str, stage: Stage, *, without: bool) -> None:
    started_at, technique = time.monotonic(), TECHNIQUES[name]
    title(f"{name}: {technique.sentence}")
    if without:
        does("The technique is turned off (--without), so this show fails.")
    technique.show(stage, without=without)
    claim(not without, "every claim is true, although the technique is turned off")
    section(f"All of this was checked, in {time.monotonic() - started_at:.1f} s.")
    show(f"Read on: {technique.read_on}")
