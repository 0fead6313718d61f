"""Writes the results of a run: results.json, the charts, and the tables in docs/techniques.md."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stack.environment import CHECKOUT
from tests.benchmarks.lab import charts, tables

DOCS: Final = CHECKOUT / "docs"
PAGE: Final = "techniques.md"
RESULTS: Final = "lab/results.json"
HEADING: Final = "run"  # the mark of the line with the date and the machine
BLOCK: Final = re.compile(
    r"<!-- lab: (?P<name>[a-z-]+) -->\n(?P<text>.*?)<!-- end of lab -->", re.DOTALL
)


def write(results: Mapping[str, Any], *, docs: Path = DOCS) -> None:
    """Replaces the results, the charts, and every block of the page.

    Raises ValueError if the page has a block that these results don't fill. Nothing is written
    then.
    """
    page = docs / PAGE
    text = filled(page.read_text(encoding="utf-8"), results)
    folder = (docs / RESULTS).parent
    folder.mkdir(exist_ok=True)
    (docs / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, chart in charts.charts(results).items():
        drawn = charts.draw(chart, note=note(results))
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    page.write_text(text, encoding="utf-8")


def filled(page: str, results: Mapping[str, Any]) -> str:
    """The page with each block's text made from these results. Raises ValueError."""
    made = blocks(results)

    def replaced(found: re.Match[str]) -> str:
        if (name := found["name"]) not in made:
            raise ValueError(f"these results have no figures for the block {name}")
        return f"<!-- lab: {name} -->\n{made[name]}<!-- end of lab -->"

    return BLOCK.sub(replaced, page)


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """The text of each block that these results fill, by the name in its mark."""
    found = {name: tables.as_markdown(table) for name, table in tables.tables(results).items()}
    return {HEADING: heading(results) + "\n", **found}


def heading(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    durability = ", ".join(f"{name} {value}" for name, value in results["durability"].items())
    rounds = "1 round" if results["rounds"] == 1 else f"{results['rounds']} rounds"
    return (
        f"**{results['date']}**, `{results['command']}`, on {machine['cpu']},"
        f" {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, Python"
        f" {machine['python']}, PostgreSQL {machine['postgresql']}, Valkey {machine['valkey']};"
        f" {durability}. {results['users']:,} users, {results['clients']} clients,"
        f" {rounds}. The replay of the delayed standby waits {results['delay_ms']} ms. Before each"
        f" part, other processes kept at most"
        f" {max(results['others_busy_cores'].values(), default=0)} cores busy."
    )


def note(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return f"{results['date']}, {machine['cores']} cores, PostgreSQL {machine['postgresql']}"
