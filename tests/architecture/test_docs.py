"""What the documents say of this repository is there: files, headings, tests, invariants."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from outbox import tables
from tests.sabotage import __main__ as sabotage

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for folder in (".", "docs", "docs/adr")
    for path in (CHECKOUT / folder).glob("*.md")
)
ADRS = sorted((CHECKOUT / "docs" / "adr").glob("*.md"))
SECTIONS = ["Context", "Decision", "Consequence", "What decided it", "Credits"]
OUTBOX = (CHECKOUT / "docs" / "outbox.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
TEST = re.compile(r"\btest_\w+\b(?!\.py)")
INVARIANT = re.compile(r"^\| (\d+) \| (.*) \|$", re.MULTILINE)


@cache
def text_of(document: str) -> str:
    return (CHECKOUT / document).read_text(encoding="utf-8")


def prose_of(document: str) -> str:
    return FENCE.sub("", text_of(document))


def blocks_of(document: str, language: str) -> list[str]:
    return [block for found, block in FENCE.findall(text_of(document)) if found == language]


def links() -> Iterator[tuple[str, str, str]]:
    """(document, text, target) of every link that stays in this repository."""
    for document in DOCUMENTS:
        for text, target in LINK.findall(prose_of(document)):
            if not target.startswith("https://"):
                yield document, text, target


@cache
def named_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


@cache
def every_test() -> frozenset[str]:
    return frozenset().union(*map(named_in, (CHECKOUT / "tests").rglob("test_*.py")))


def anchors_of(path: Path) -> set[str]:
    """The headings, as the usual renderers name them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize(("document", "text", "target"), list(links()))
def test_every_link_has_a_target(document: str, text: str, target: str):
    name, _, anchor = target.partition("#")
    path = (CHECKOUT / document).parent / name if name else CHECKOUT / document
    assert path.exists(), f"{document} links to {target}"
    assert path.resolve().is_relative_to(CHECKOUT)
    if anchor:
        assert anchor in anchors_of(path), f"{document} links to {target}"
    if text.startswith("test_"):
        assert text in named_in(path) or text == path.name, f"{document} names {text}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_test_exists(document: str):
    named = set(TEST.findall(prose_of(document)))
    assert named <= every_test(), f"{document} names {named - every_test()}"


def test_decisions_are_numbered_without_a_gap_and_built_alike():
    assert [path.name[:4] for path in ADRS] == [f"{n:04}" for n in range(1, len(ADRS) + 1)]
    for number, path in enumerate(ADRS, start=1):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS, path.name


def test_every_invariant_names_a_test_and_is_attacked():
    rows = {int(number): row for number, row in INVARIANT.findall(OUTBOX)}
    assert list(rows) == list(range(1, len(rows) + 1))
    for number, row in rows.items():
        assert set(TEST.findall(row)) & every_test(), f"invariant {number} names no test"
    assert {one.invariant for one in sabotage.SABOTAGES} == set(rows)
    for one in sabotage.SABOTAGES:
        assert one.test.partition("::")[2] in rows[one.invariant], one.promise


@pytest.mark.parametrize(
    "one", [*sabotage.SABOTAGES, *sabotage.DAMAGES], ids=lambda one: one.promise
)
def test_every_sabotage_matches_the_source_and_names_a_test(one: sabotage.Sabotage | sabotage.Damage):
    file, _, test = one.test.partition("::")
    assert test in named_in(CHECKOUT / file)
    whole = (CHECKOUT / one.file).read_text(encoding="utf-8")
    assert sabotage.damaged(whole, one) != whole


@pytest.mark.parametrize("document", DOCUMENTS)
def test_console_blocks_are_commands_with_their_output(document: str):
    for block in blocks_of(document, "console"):
        lines = block.splitlines()
        assert lines[0].startswith("$ "), block
        commands = [line[2:] for line in lines if line[:2] in {"$ ", "> "}]
        for before, line in pairwise(lines):
            assert not line.startswith("> ") or before[:2] in {"$ ", "> "}, line
        script = "\n".join(commands)
        read = subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False)
        assert read.returncode == 0, script


def test_the_readme_shows_the_models_of_the_example_project():
    (block,) = [block for block in blocks_of("README.md", "python") if "models.py" in block]
    theirs = text_of("tests/support/stranger/shop/models.py")
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 1 + len(tables.BASES)
    for line in lines:
        assert line in theirs


def test_python_in_the_readme_parses():
    for block in blocks_of("README.md", "python"):
        ast.parse(block)
