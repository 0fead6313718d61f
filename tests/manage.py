"""Runs `manage.py` as an operator would: in a process of its own, in a given environment."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.surroundings import CHECKOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    status: int
    output: str


def manage(environment: Mapping[str, str], *arguments: str) -> Outcome:
    """Run it to its end, at most a minute, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=CHECKOUT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(status=done.returncode, output=done.stdout)


def managed(environment: Mapping[str, str], *arguments: str) -> str:
    """The same, which must succeed; what it printed."""
    outcome = manage(environment, *arguments)
    assert outcome.status == 0, f"manage.py {' '.join(arguments)}:\n{outcome.output}"
    return outcome.output
