"""docs/operations.md as a page, so that a warning's link needs no other host."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parents[2] / "docs" / "operations.md"


@cache
def sections() -> tuple[tuple[str, str, str], ...]:
    """The anchor, the heading and the Markdown of each section; empty without the file."""
    if not FILE.exists():
        return ()
    return tuple(_sections(FILE.read_text(encoding="utf-8")))


def _sections(text: str) -> Iterator[tuple[str, str, str]]:
    for part in text.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        yield anchor(heading), heading, body.strip()


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
