"""Every file, heading, test and invariant that a document names exists."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery

from outbox import tables
from tests.sabotage import __main__ as sabotage
from tests.sabotage import outbox, rights
from tests.sabotage.sabotage import Sabotage

# One worker runs these tests. So each test file is parsed only once.
pytestmark = pytest.mark.xdist_group("documents")

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for folder in (".", "docs", "docs/adr", "lab")
    for path in (CHECKOUT / folder).glob("*.md")
)
ADRS = sorted((CHECKOUT / "docs" / "adr").glob("*.md"))
USING = "docs/using-the-outbox.md"
PLACEMENT = "docs/using-placement.md"
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
    """Returns (document, text, target) of each link to a file of this repository."""
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
    files = [*(CHECKOUT / "tests").rglob("test_*.py"), CHECKOUT / "docs" / "journey" / "tests.py"]
    return frozenset().union(*map(named_in, files))


@cache
def anchors_of(path: Path) -> set[str]:
    """Returns the anchors that a Markdown renderer makes from the file's headings."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_link_has_a_target():
    broken = [
        f"{document}: [{text}]({target})"
        for document, text, target in links()
        if not has_target(document, text, target)
    ]
    assert not broken, "\n".join(broken)


def has_target(document: str, text: str, target: str) -> bool:
    """Whether the linked file exists in this repository and has the named anchor and test."""
    name, _, anchor = target.partition("#")
    path = (CHECKOUT / document).parent / name if name else CHECKOUT / document
    if not path.exists() or not path.resolve().is_relative_to(CHECKOUT):
        return False
    if anchor and anchor not in anchors_of(path):
        return False
    return not text.startswith("test_") or text == path.name or text in named_in(path)


def test_every_named_test_exists():
    unknown = {
        document: names
        for document in DOCUMENTS
        if (names := set(TEST.findall(prose_of(document))) - every_test())
    }
    assert unknown == {}


def test_decisions_have_consecutive_numbers_and_the_same_sections():
    assert [path.name[:4] for path in ADRS] == [f"{n:04}" for n in range(1, len(ADRS) + 1)]
    for number, path in enumerate(ADRS, start=1):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS, path.name


def test_every_invariant_has_a_test_and_a_sabotage():
    rows = {int(number): row for number, row in INVARIANT.findall(OUTBOX)}
    assert list(rows) == list(range(1, len(rows) + 1))
    for number, row in rows.items():
        assert set(TEST.findall(row)) & every_test(), f"invariant {number} names no test"
    numbered = [one for one in (*outbox.SABOTAGES, *rights.SABOTAGES) if one.invariant]
    assert {one.invariant for one in numbered} == set(rows)
    for one in numbered:
        assert one.test.partition("::")[2] in rows[one.invariant], one.promise


def test_every_door_names_a_test_with_a_sabotage_and_every_attack_is_on_the_page():
    page = text_of("docs/security.md")
    rows = section_of(page, "The doors")
    doors = re.findall(r"(?m)^\| ([^|*]+) \| ([^|]+) \| (.+) \|$", rows)
    attacks = (CHECKOUT / "tests" / "attacks").rglob("test_*.py")

    sabotaged = {one.test.partition("::")[2] for one in sabotage.EVERY}

    assert len(doors) > 20
    assert [
        door
        for door, _, tried in doors[1:]
        if not set(TEST.findall(tried)) & sabotaged and not tried.startswith("by hand: ")
    ] == []
    assert [path.name for path in attacks if f"/{path.name})" not in page] == []


def section_of(page: str, heading: str) -> str:
    return page.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_every_sabotage_matches_the_source_and_names_a_test():
    unknown = [
        one.test for one in sabotage.EVERY if one.test.partition("::")[2] not in named_tests(one)
    ]
    assert not unknown, "\n".join(unknown)
    for one in sabotage.EVERY:
        assert sabotage.damaged(text_of(one.file), one) != text_of(one.file), one.promise


def named_tests(one: Sabotage) -> frozenset[str]:
    return named_in(CHECKOUT / one.test.partition("::")[0])


def test_console_blocks_are_commands_with_their_output():
    for block in chain.from_iterable(blocks_of(document, "console") for document in DOCUMENTS):
        lines = block.splitlines()
        assert lines[0].startswith("$ "), block
        commands = [line[2:] for line in lines if line[:2] in {"$ ", "> "}]
        for before, line in pairwise(lines):
            assert not line.startswith("> ") or before[:2] in {"$ ", "> "}, line
        script = "\n".join(commands)
        read = subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False)
        assert read.returncode == 0, script


def test_the_page_about_using_the_outbox_shows_every_model_in_each_models_file():
    files = [block for block in blocks_of(USING, "python") if "/models.py\n" in block[:30]]
    assert len(files) == 2
    for block in files:
        shown = re.findall(r"^class \w+\(outbox\.(\w+)\): \.\.\.$", block, re.MULTILINE)
        assert sorted(shown) == sorted(base.__name__ for base in tables.BASES.values())


def test_the_page_about_using_placement_shows_the_files_of_its_example_project():
    shown = [block.partition("\n") for block in blocks_of(PLACEMENT, "python") if block[0] == "#"]
    assert len(shown) > 4
    for name, _, block in shown:
        assert block in text_of(f"tests/support/placed/{name.removeprefix('# ')}"), name


def test_the_documented_schedule_keeps_the_entries_of_the_project():
    (block,) = [block for block in blocks_of(USING, "python") if "beat_schedule" in block]
    app = Celery("another project", set_as_current=False)
    app.conf.beat_schedule = {"own": {"task": "shop.own", "schedule": 60.0}}
    hook = "@app" + block.partition("\n@app")[2].replace("mitosis_outbox", "outbox")
    module = {"app": app, "Celery": Celery, "Any": Any}  # the app keeps no reference to the hook
    exec(hook, module)  # noqa: S102
    app.finalize()
    assert set(app.conf.beat_schedule) == {"own", "relay-shop", "prune-shop"}


def test_python_in_the_documents_parses():
    for block in chain.from_iterable(blocks_of(document, "python") for document in DOCUMENTS):
        ast.parse(block)


def test_yaml_in_the_documents_parses():
    blocks = list(chain.from_iterable(blocks_of(document, "yaml") for document in DOCUMENTS))
    assert blocks
    for block in blocks:
        yaml.safe_load(block)
