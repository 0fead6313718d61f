"""Runs `manage.py` in a separate process with a given environment."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.surroundings import CHECKOUT, prepare, variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    status: int
    output: str


def manage(environment: Mapping[str, str], *arguments: str, warnings: str = "error") -> Outcome:
    """Run `manage.py` to its end, for at most a minute. By default, warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", warnings, "manage.py", *arguments],
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
    """Run `manage.py`, assert that it succeeds, and return its output."""
    outcome = manage(environment, *arguments)
    assert outcome.status == 0, f"manage.py {' '.join(arguments)}:\n{outcome.output}"
    return outcome.output


def main() -> None:
    """Run `[LAB=off] python -m tests.support.manage SHAPE …`: in production, but no servers."""
    shape, *arguments = sys.argv[1:]
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LAB") if name in os.environ}
    prepare()
    outcome = manage({**variables(shape), **known, "HTTPS": "on"}, *arguments, warnings="ignore")
    sys.stdout.write(outcome.output)
    sys.exit(outcome.status)


if __name__ == "__main__":
    main()
