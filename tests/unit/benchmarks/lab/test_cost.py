"""The processor time of a server includes all its processes."""

import os
from pathlib import Path

import pytest

from tests.benchmarks.lab.cost import TICKS_PER_SECOND, Work, cpu_seconds


def process(proc: Path, pid: int, parent: int, *, user: int, system: int, ended: int = 0) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    fields = ["S", str(parent), *["0"] * 9, str(user), str(system), str(ended), "0", "0"]
    (folder / "stat").write_text(f"{pid} (postgres: a (b) c) {' '.join(fields)}")


def test_the_time_of_the_postmaster_its_children_and_its_ended_children_counts(tmp_path):
    process(tmp_path, 10, 1, user=1, system=2, ended=30)
    process(tmp_path, 11, 10, user=400, system=0)
    process(tmp_path, 12, 11, user=9000, system=0)
    (tmp_path / "self").symlink_to(tmp_path / "10")

    assert cpu_seconds(10, proc=tmp_path) == pytest.approx(433 / TICKS_PER_SECOND)


def test_without_proc_the_time_is_unknown(tmp_path):
    assert cpu_seconds(10, proc=tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_this_process_has_used_time():
    assert cpu_seconds(os.getpid()) > 0


def test_work_is_divided_by_the_requests():
    before, after = Work(cpu_seconds=1.0, statements=10), Work(cpu_seconds=1.5, statements=30)

    assert after.per_request_since(before, 10) == {"statements": 2.0, "cpu_ms": 50.0}
    unknown = Work(cpu_seconds=None, statements=10)
    assert after.per_request_since(unknown, 10)["cpu_ms"] is None
