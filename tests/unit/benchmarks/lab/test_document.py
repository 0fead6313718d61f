"""The page has the tables that the results make, and nothing else in its blocks."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.lab import charts, document, tables
from tests.benchmarks.lab.document import BLOCK
from tests.unit.benchmarks.lab.examples import results

PAGE = """# Before
<!-- lab: run -->
old
<!-- end of lab -->
between
<!-- lab: access -->
old
<!-- end of lab -->
After
"""


def docs(folder: Path, text: str = PAGE) -> Path:
    (folder / document.PAGE).write_text(text)
    return folder


def test_new_results_replace_every_block_and_leave_the_rest(tmp_path):
    for _ in range(2):
        document.write(results(), docs=docs(tmp_path))

    text = (tmp_path / document.PAGE).read_text()
    assert text.startswith("# Before\n<!-- lab: run -->\n**2026-01-02**, `./dev lab`, on A <quick>")
    assert "\nbetween\n" in text
    assert text.endswith("<!-- end of lab -->\nAfter\n")
    assert "old" not in text
    assert "| the copy kept by events | 4.0 ms (3.6 to 4.8) | yes |" in text
    assert json.loads((tmp_path / document.RESULTS).read_text()) == results()


def test_a_chart_for_each_question_is_drawn(tmp_path):
    document.write(results(), docs=docs(tmp_path))

    drawn = {file.stem for file in (tmp_path / "lab").glob("*.svg")}
    assert drawn == charts.CHARTS.keys()
    for file in (tmp_path / "lab").glob("*.svg"):
        text = "".join(ET.parse(file).getroot().itertext())  # noqa: S314 - our own
        assert "?" in text, "a chart has its question as the title"


def test_a_block_without_figures_is_refused_and_nothing_is_written(tmp_path):
    found = results()
    del found["access"]

    with pytest.raises(ValueError, match="no figures for the block access"):
        document.write(found, docs=docs(tmp_path))

    assert (tmp_path / document.PAGE).read_text() == PAGE
    assert not (tmp_path / document.RESULTS).exists()


def test_the_page_shows_exactly_the_tables_of_the_results():
    """Fails if a run's results changed without the page, or the page without a run."""
    page = (document.DOCS / document.PAGE).read_text()
    found = json.loads((document.DOCS / document.RESULTS).read_text())

    assert document.filled(page, found) == page
    assert {block["name"] for block in BLOCK.finditer(page)} >= tables.TABLES.keys()
    assert {file.stem for file in (document.DOCS / "lab").glob("*.svg")} == charts.CHARTS.keys()


def test_the_results_have_the_shape_that_a_run_gives_today():
    """Fails if a case, a part or a figure was added or removed since the results were measured."""
    found = json.loads((document.DOCS / document.RESULTS).read_text())

    assert _shape(found) == _shape(results())


def _shape(found: dict) -> dict:
    """The keys of each part, and the cases that it has, without figures."""
    shape = {"run": sorted(found)}
    for name, part in found.items():
        if isinstance(part, list):
            shape[name] = [sorted({key for one in part for key in one}), _cases(part)]
    return shape


def _cases(part: list) -> list:
    keys = ("case", "part", "mix", "standby", "event")
    return sorted({tuple(str(one.get(key, "")) for key in keys) for one in part})
