"""Virtual environments in which the wheel is installed, from PyPI and not editable."""

import re
import subprocess
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from email.message import Message
from functools import cache
from pathlib import Path
from shutil import which

from stack.environment import PYTHON

NEWEST = ("3.13", "3.12")  # 3.11 has no Django 6


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


@cache
def newest_python() -> str:
    """The newest Python of this machine, up to 3.13; this one if none is newer."""
    folders = sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
    for version in NEWEST:
        found = which(f"python{version}"), *(which(f"python{version}", path=at) for at in folders)
        for python in filter(None, found):
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return python
    return PYTHON


def install(home: Path, wheel: Path, *, extras: Sequence[str], lowest: bool) -> str:
    """Make an environment with the wheel and these extras; return its Python. With `lowest`, the
    packages that the wheel requires have the lowest versions that it allows."""
    python = str(home / "bin" / "python")
    uv("venv", "--quiet", "--python", PYTHON if lowest else newest_python(), str(home))
    wanted = [f"{wheel}[{','.join(extras)}]"]
    if lowest:
        wanted += ["--resolution", "lowest-direct", *required(wheel, extras)]
    uv("pip", "install", "--quiet", "--python", python, *wanted)
    return python


def required(wheel: Path, extras: Sequence[str]) -> list[str]:
    """The requirements of the wheel and of these extras. Without a name on its command line, uv
    doesn't install the lowest version of a package."""
    found = []
    for line in metadata_of(wheel).get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = re.fullmatch(r"\s*extra == '([^']+)'", marker.replace('"', "'"))
        if not marker or (extra and extra[1] in extras):
            found.append(requirement.strip())
    return found


def uv(*arguments: str) -> None:
    subprocess.run([PYTHON, "-m", "uv", *arguments], cwd="/", check=True)
