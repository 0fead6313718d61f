"""Builds the wheel and the source archive of the outbox."""

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.environments import python_with

CHECKOUT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = Path(__file__).with_name("requirements.txt")
NAME: Final = "mitosis_outbox"  # of the import; also the label of the app
DOCUMENTS: Final = {
    "README.md": CHECKOUT / "docs" / "using-the-outbox.md",
    "CHANGELOG.md": Path(__file__).with_name("CHANGELOG.md"),
}
LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")

FENCED: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"!?\[([^\]]*)\]\((?!https?://)[^)\s]*\)")


def build(target: Path) -> tuple[Path, Path]:
    """Write the wheel and the source archive into the folder, and return their paths. Raises
    RuntimeError."""
    with TemporaryDirectory() as folder:
        collect(Path(folder))
        return hatched(Path(folder), target, "wheel"), hatched(Path(folder), target, "sdist")


def collect(folder: Path) -> None:
    """Put everything that the archives contain into the empty folder."""
    shutil.copytree(CHECKOUT / "outbox", folder / NAME, ignore=LEFT_OUT)
    for name, document in DOCUMENTS.items():
        (folder / name).write_text(without_links(document.read_text("utf-8")), "utf-8")
    shutil.copy(CHECKOUT / "LICENSE", folder)
    shutil.copy(Path(__file__).with_name("pyproject.toml"), folder)


def without_links(text: str) -> str:
    """Replace each link to a file of the checkout, or to a heading, by its text. The package has
    no such files, and PyPI's pages have no anchors of headings. Blocks of code stay as they are."""
    parts = FENCED.split(text)  # every second part is a block
    parts[::2] = [LINK.sub(r"\1", part) for part in parts[::2]]
    return "".join(parts)


def hatched(folder: Path, target: Path, kind: str) -> Path:
    """Build the folder with hatchling, and return the path of the archive. Raises RuntimeError."""
    command = [str(python_with(LOCK)), "-m", "hatchling", "build"]
    done = subprocess.run(
        [*command, "--target", kind, "--directory", str(target.resolve())],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"hatchling can't build the {kind}:\n{done.stdout}")
    return target / done.stdout.strip().splitlines()[-1].rpartition("/")[2]
