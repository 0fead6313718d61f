"""Compares the locked packages with the published advisories: `./dev audit`.

It needs the network, and its result changes without a change of the checkout, so the gate doesn't
run it. pip-audit and its packages are in an environment of their own.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.environments import python_with

CHECKOUT: Final = Path(__file__).resolve().parents[2]
AUDITOR: Final = CHECKOUT / ".ci" / "audit" / "requirements.txt"


def locks() -> list[str]:
    """Every lock of the checkout, also the one of pip-audit."""
    listed = ["git", "ls-files", "*requirements*.txt"]
    done = subprocess.run(listed, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def audited(lock: str) -> int:
    """Audit one lock; pip-audit prints the packages with advisories. Returns its exit status."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    command = [str(python_with(AUDITOR)), "-m", "pip_audit", *options, "--requirement", lock]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


def main() -> int:
    """Audit every lock, even if one has advisories."""
    failed = 0
    for lock in locks():
        sys.stdout.write(f"{lock}\n")
        sys.stdout.flush()
        failed += bool(audited(lock))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
