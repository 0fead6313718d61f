"""The probes of the image's entrypoint, without a container."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).resolve().parents[3] / "docker" / "entrypoint.py"


def run(*arguments: str, folder: Path) -> tuple[int, str]:
    variables = {
        "PATH": os.environ["PATH"],
        "PROGRESS_FOLDER": str(folder),
    }
    done = subprocess.run(
        [sys.executable, ENTRYPOINT, *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("program", ["worker", "beat", "consumer"])
def test_a_process_is_unhealthy_if_one_of_its_loops_makes_no_steps(
    tmp_path: Path, program: str
) -> None:
    assert run("probe", program, folder=tmp_path) == (1, "no loop has made a step yet")
    for loop in ("one", "two"):
        (tmp_path / loop).touch()
    assert run("probe", program, folder=tmp_path) == (0, "2 loops move")
    os.utime(tmp_path / "two", times=(time.time() - 100,) * 2)
    status, printed = run("probe", program, folder=tmp_path)
    assert (status, printed[:17]) == (1, "no step of two: 1")


@pytest.mark.parametrize("arguments", [["probe", "wrok"], ["probe", "a", "b"]])
def test_an_unknown_argument_of_a_probe_never_acts(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "one").touch()
    status, printed = run(*arguments, folder=tmp_path)
    assert (status, printed[:6]) == (2, "usage:")
