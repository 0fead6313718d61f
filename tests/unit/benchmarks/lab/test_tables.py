"""The tables show what was measured, and nothing that wasn't."""

from tests.benchmarks.lab.charts import Bar, Chart, draw
from tests.benchmarks.lab.tables import TABLES, as_markdown, as_text, tables
from tests.unit.benchmarks.lab.examples import results


def test_every_table_has_rows_with_a_cell_for_each_column():
    made = tables(results())

    assert made.keys() == TABLES.keys()
    for name, table in made.items():
        assert table.rows, name
        assert {len(row) for row in table.rows} == {len(table.columns)}, name
        lines = as_markdown(table).splitlines()[2:]
        assert {line.count("|") for line in lines} == {len(table.columns) + 1}, name


def test_a_table_of_a_part_that_was_not_measured_is_left_out():
    found = results()
    del found["movement"]

    assert tables(found).keys() == TABLES.keys() - {"partitioning"}


def test_a_figure_shows_its_median_and_spread_or_that_it_is_unknown():
    found = results()
    found["cost"][0]["cpu_ms"] = None
    rows = {row[0]: row for row in tables(found)["cost"].rows}

    assert rows["split"][1] == "1,500/s (1,350 to 1,800)"
    assert rows["split"][5:] == ("0.25 ms (0.23 to 0.30)", "4,000/s")
    assert rows["primary"][5:] == ("–", "–")


def test_stale_reads_are_shown_with_their_share_in_each_mix():
    found = results()
    found["consistency"][-1]["stale_own"] = 0
    rows = {row[:2]: row for row in tables(found)["token"].rows}

    assert rows["split-without-token", "delayed"] == (
        *("split-without-token", "delayed", "3,000"),
        *("18.0%, 18.0%, 18.0%", "9.0%, 9.0%, 0", "9.0%, 9.0%, 9.0%", "48 ms"),
    )
    assert rows["split", "delayed"][3:6] == ("0", "0", "0")
    assert {case for case, _ in rows} == {"split", "split-without-token"}


def test_the_text_of_a_table_is_aligned():
    lines = as_text(tables(results())["partitioning"]).splitlines()

    assert len({len(line) for line in lines[2:-1]}) == 1
    assert lines[1] == "What moves when a node joins or leaves?"


def test_the_longest_bar_fits_and_a_spread_is_drawn_on_it():
    bars = [
        Bar(name="off", on=False, value=100.0, low=90.0, high=120.0),
        Bar(name="on", on=True, value=0.0, low=0.0, high=0.0),
    ]
    drawn = draw(Chart(question="How <much>?", unit="ms", bars=bars), note="today")

    assert "How &lt;much&gt;?" in drawn
    assert drawn.count("<path") == 3
    assert "100 ms" in drawn
    assert "0 ms" in drawn
