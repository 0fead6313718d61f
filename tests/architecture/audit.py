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
LOCKS: Final = (
    CHECKOUT / "requirements.txt",  # contains the locks of the image and of the stack
    CHECKOUT / ".ci" / "requirements-django61.txt",
    CHECKOUT / "tests" / "benchmarks" / "rival" / "requirements.txt",
    CHECKOUT / "tests" / "acceptance" / "description" / "requirements.txt",
    AUDITOR,
)


def audited(lock: Path) -> int:
    """Audit one lock; pip-audit prints the packages with advisories. Returns its exit status."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    command = [str(python_with(AUDITOR)), "-m", "pip_audit", *options, "--requirement", str(lock)]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Audit every lock, even if one has advisories."""
    failed = 0
    for lock in LOCKS:
        sys.stdout.write(f"{lock.relative_to(CHECKOUT)}\n")
        sys.stdout.flush()
        failed += bool(audited(lock))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
