"""docs/operations.md and docs/glossary.md for pages, so that a link needs no other host."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
GLOSSARY: Final = FILE.with_name("glossary.md")
_TERM: Final = re.compile(r"^\| ([^|]+) \| ([^|]+) \| [^|]*\|$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^]]+)\]\([^)]+\)")
_EMPHASIS: Final = re.compile(r"\*([^*]+)\*")
# The words on the flow page that a newcomer doesn't know.
OF_FLOW: Final = (
    *("outbox event", "tick", "relay", "stream", "partition", "key"),
    *("consumer", "projection", "member", "lease", "parked sequence"),
)


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


@cache
def glossary() -> dict[str, str]:
    """The meaning of each term; empty without the file."""
    if not GLOSSARY.exists():
        return {}
    rows = _TERM.findall(GLOSSARY.read_text(encoding="utf-8"))
    return {term: _text_of(meaning) for term, meaning in rows if term != "term"}


def _text_of(markdown: str) -> str:
    return _EMPHASIS.sub(r"\1", _LINK.sub(r"\1", markdown))


def words_of_flow() -> list[tuple[str, str]]:
    return [(term, glossary()[term]) for term in OF_FLOW if term in glossary()]
