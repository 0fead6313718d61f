"""Separate virtual environments, for programs that the project's own environment doesn't have.

`python -m tests.support.environments PYTHON` prints a folder with psycopg 3 for that Python.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from stack.environment import CHECKOUT, PYTHON

ENVIRONMENTS: Final = CHECKOUT / ".local" / "environments"
PSYCOPG3: Final = CHECKOUT / ".ci" / "requirements-psycopg3.txt"


def python_with(lock: Path) -> Path:
    """Return the Python of an environment with exactly the packages of the lock file.

    It is made at first use, in a folder with the name of the lock's folder. Raises RuntimeError.
    """
    home = ENVIRONMENTS / lock.parent.name
    python, stamp = home / "bin" / "python", home / "installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        _uv("venv", "--quiet", "--clear", "--python", PYTHON, str(home), lock=lock)
        _install(lock, python=str(python))
        stamp.write_text(lock.read_text())
    return python


def folder_with_psycopg3(*, python: str = PYTHON) -> Path:
    """Return a folder for the PYTHONPATH of this Python: Django then uses psycopg 3, although
    psycopg 2 is installed too. It is made at first use. Raises RuntimeError."""
    version = "import sys; print(sys.implementation.cache_tag)"
    asked = subprocess.run([python, "-c", version], check=True, capture_output=True, text=True)
    folder = ENVIRONMENTS / f"psycopg3-{asked.stdout.strip()}"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != PSYCOPG3.read_text():
        shutil.rmtree(folder, ignore_errors=True)  # of other versions
        _install(PSYCOPG3, "--target", str(folder), python=python)
        stamp.write_text(PSYCOPG3.read_text())
    return folder


def _install(lock: Path, *options: str, python: str) -> None:
    locked = ["--require-hashes", "--requirement", str(lock)]
    _uv("pip", "install", "--quiet", *locked, "--python", python, *options, lock=lock)


def _uv(*arguments: str, lock: Path) -> None:
    done = subprocess.run([PYTHON, "-m", "uv", *arguments], cwd=CHECKOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"the packages of {lock} could not be installed")


if __name__ == "__main__":
    print(folder_with_psycopg3(python=sys.argv[1]))  # noqa: T201
