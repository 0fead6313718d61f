"""A run of the benchmarks with a load that is too small to measure speed."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.surroundings import CHECKOUT

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def test_a_run_writes_its_result_files_and_stops_its_servers(tmp_path: Path) -> None:
    result, drawn, root = tmp_path / "result.json", tmp_path / "drawn.svg", tmp_path / "root"
    arguments = [
        "--scale",
        "tiny",
        "--only",
        "write_overhead",
        "record_many",
        "event_store",
        "admin",
        "relay",
        "consumer",
        "ring",
        "ring_events",
        "flow",
        "retention",
        "--root",
        str(root),
    ]

    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks", *arguments),
            *("--json", str(result), "--svg", str(drawn)),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "200 waiting behind 400, one held" in done.stdout
    found = json.loads(result.read_text())
    assert found["durability"]["synchronous_commit"] == "on"
    assert {one["backlog"] for one in found["relay"]} == {200}
    assert len(found["write_overhead"]["runs"]) == 10
    assert found["record_many"]["ratio"] > 0
    assert found["event_store"]["appends_per_second"] > 0
    assert set(map(len, found["admin"]["pages_ms"].values())) == {2}
    assert found["consumer"]["batch_events_per_second"] > 0
    assert {one["operation"] for one in found["ring"]["many"]} == {"get", "get_many", "set_many"}
    assert all(one["ratio"] > 0 for one in found["ring"]["lookups"])
    assert len(found["ring_events"]["events"]) == 5
    assert found["ring_events"]["reads"] > 0
    assert found["ring_events"]["failed_reads"] == found["ring_events"]["older_reads"] == 0
    assert found["flow"]["ratio"] > 0
    assert found["retention"]["rows_that_differ"] == 0
    assert found["retention"]["delete_statements"] > 0
    ET.parse(drawn)  # noqa: S314 - our own file
    assert not (root / "postgres").exists()
