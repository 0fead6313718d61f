"""Finds words that the project's prose doesn't use: `python -m tests.architecture.words`.

Authors use the field's own term or a plain verb instead. Prints a line for each hit, and exits
with status 1 if there is any.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
ENDINGS: Final = {".py", ".md", ".sh", ".yml", ".toml", ".svg", ".conf", ".in", ""}
LEFT_OUT: Final = re.compile(
    r"(^|/)(migrations|LICENSE|previous_routes\.py|words\.py|test_words\.py)(/|$)"
)
UNWANTED: Final = (
    *("told", "retold", "retell", "reannounce", "whoever", "whatever", "bears", "lacks", "lacked"),
    *("lacking", "anew", "mend", "mends", "mended", "mending", "somebody", "anybody", "thereby"),
    *("hence", "go on", "goes on", "going on", "went on", "gone on", "as it were", "hang up"),
    *("hangs up", "hung up", "carried away", "take away", "takes away", "taken away", "took away"),
)
# The pattern also matches inside an identifier, where `_` replaces the space.
PATTERN: Final = re.compile(
    r"(?<![a-z])(" + "|".join(word.replace(" ", r"[\s_]") for word in UNWANTED) + r")(?![a-z])",
    re.IGNORECASE,
)


def hits(text: str) -> Iterator[tuple[int, str]]:
    """Yields the line number and the word of each hit."""
    for found in PATTERN.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, " ".join(found[1].split())


def files() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = CHECKOUT / name
        if path.suffix in ENDINGS and not LEFT_OUT.search(name) and path.is_file():
            yield path


def main() -> int:
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}: {word}"
        for path in files()
        for line, word in hits(path.read_text(encoding="utf-8"))
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
