"""Checks the page, the plot, the JSON fields and the progress bar of a benchmark run."""

import io
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import page, plot
from tests.benchmarks.__main__ import PARTS, faults
from tests.benchmarks.progress import Progress, bar
from tests.benchmarks.results import FIELDS, missing
from tests.unit.benchmarks.examples import results


def test_the_page_shows_the_machine_durability_and_figures_with_their_limits():
    text = page.render(results())

    for part in ("2 cores", "fsync on", "load average before 0.1", "120,000", "100,000", "1.20"):
        assert part in text
    assert "500 events/s offered, one held" in text
    rounds = "4.1 / 21.0 at 30, 4.2 / 21.0 at 30, 5.3 / 21.0 at 30"
    assert f"medians of these rounds, p50 / p99 at pace: {rounds}" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", PARTS)
def test_the_page_and_the_plot_omit_parts_that_were_not_measured(name):
    found = results()
    del found[name]

    assert page.render(found) != page.render(results())
    ET.fromstring(plot.render(found))  # noqa: S314 - our own


def test_the_plot_escapes_the_name_of_the_machine():
    drawn = ET.fromstring(plot.render(results()))  # noqa: S314 - our own

    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "A <quick> & quiet one" in "".join(drawn.itertext())


def test_a_complete_result_has_every_documented_field():
    assert missing(results()) == []


@pytest.mark.parametrize("part", FIELDS)
def test_a_field_that_is_missing_is_named(part):
    found = results()
    holder = found[part][0] if isinstance(found[part], list) else found[part]
    field = FIELDS[part][0]
    del holder[field]

    assert missing(found) == [f"{part}.{field}"]


def test_faults_with_a_held_transaction_count_too():
    found = results()
    assert faults(found) == 0

    found["end_to_end"]["held_transaction"] = {"lost": 1, "duplicated": 2, "reordered": 3}

    assert faults(found) == 6

    found["ring_events"] |= {"failed_reads": 1, "older_reads": 2}
    assert faults(found) == 9


def test_without_a_terminal_progress_is_a_line_for_each_part():
    stream = io.StringIO()
    progress = Progress(stream)

    progress.begin("relay", steps=2)
    progress.step("10,000 rows")
    progress.end()

    assert stream.getvalue() == "relay …\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_one_bar_redrawn():
    stream = Terminal()
    progress = Progress(stream)

    progress.begin("relay", steps=2)
    progress.step("10,000 rows")
    progress.step("100,000 rows")
    progress.end()

    assert "\n" not in stream.getvalue()
    assert f"{bar(0.5)}  50%" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")
