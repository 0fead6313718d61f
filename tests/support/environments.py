"""Separate virtual environments, for programs that the project's own environment doesn't have."""

import subprocess
from pathlib import Path
from typing import Final

from stack.environment import CHECKOUT, PYTHON

ENVIRONMENTS: Final = CHECKOUT / ".local" / "environments"


def python_with(lock: Path) -> Path:
    """Return the Python of an environment with exactly the packages of the lock file.

    It is made at first use, in a folder with the name of the lock's folder. Raises RuntimeError.
    """
    home = ENVIRONMENTS / lock.parent.name
    python, stamp = home / "bin" / "python", home / "installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        install = ["pip", "install", "--quiet", "--require-hashes", "--requirement", str(lock)]
        for arguments in (
            ["venv", "--quiet", "--clear", "--python", PYTHON, str(home)],
            [*install, "--python", str(python)],
        ):
            uv = [PYTHON, "-m", "uv", *arguments]
            if subprocess.run(uv, cwd=CHECKOUT, check=False).returncode:
                raise RuntimeError(f"the packages of {lock} could not be installed")
        stamp.write_text(lock.read_text())
    return python
