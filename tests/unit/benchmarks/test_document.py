"""New results replace the table in docs/benchmarks.md, with the run's date and machine."""

import datetime as dt
from pathlib import Path

import pytest

from tests.benchmarks import document
from tests.benchmarks.page import PARTS
from tests.unit.benchmarks.examples import results


def test_new_results_replace_the_old_ones_and_leave_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{document.START}\nold\n{document.END}\nAfter\n")
    for _ in range(2):
        document.write(results(), command="./dev bench", path=page)
    text = page.read_text()
    assert text.startswith(f"# Before\n{document.START}\n**")
    assert text.endswith(f"\n{document.END}\nAfter\n")
    assert "old" not in text
    assert text.count("| what |") == 1


def test_the_table_has_a_row_for_every_part_with_date_machine_and_command() -> None:
    assert document.PARTS.keys() == PARTS.keys()
    text = document.render(results(), command="./dev bench --quick", today=dt.date(2026, 1, 2))
    assert text.startswith(
        "**2026-01-02**, `./dev bench --quick`, on A <quick> & quiet one, 2 cores"
    )
    assert "fsync on" in text
    assert "| relay: 100,000 rows waiting, behind 5,000,000 sent ones, one transaction held" in text
    for line in text.splitlines()[2:]:
        assert line.count("|") == 5, line


def test_a_document_without_the_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Nothing\n")
    with pytest.raises(ValueError, match="no place for results"):
        document.write(results(), command="./dev bench", path=page)
    assert page.read_text() == "# Nothing\n"
