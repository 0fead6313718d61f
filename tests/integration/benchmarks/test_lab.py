"""A run of the lab with a load that is too small to measure speed."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.lab.tables import TABLES
from tests.support.surroundings import CHECKOUT

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


def test_a_run_measures_every_way_and_stops_its_servers(tmp_path: Path) -> None:
    result, charts, root = tmp_path / "result.json", tmp_path / "charts", tmp_path / "root"
    arguments = ["--scale", "tiny", "--root", str(root)]

    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.lab", *arguments),
            *("--json", str(result), "--svg", str(charts)),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    # With few requests, chance decides whether a delayed standby serves a stale own read.
    broken = [line for line in done.stdout.splitlines() if line.startswith("broken: ")]
    assert all("the delayed standby serves stale own reads" in line for line in broken), broken
    assert done.returncode == bool(broken), done.stderr
    assert all(f"\n{title}" in done.stdout for title in ("What does a request cost?", "How many"))
    found = json.loads(result.read_text())
    assert {part for parts, _ in TABLES.values() for part in parts} <= found.keys()
    assert {one["case"]: one["most_loads"] for one in found["leases"]}["cache"] == 1
    assert found["access"]["without_accounts"] == {"single": False, "batched": False, "copy": True}
    served = {(one["case"], one["mix"]): set(one["served_by"]) for one in found["consistency"]}
    assert served["primary", "95/5"] == {"primary"}
    assert served["copy", "95/5"] == {"projection"}
    for file in charts.glob("*.svg"):
        ET.parse(file)  # noqa: S314 - our own file
    assert not (root / "postgres").exists()
