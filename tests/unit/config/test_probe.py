"""The probes and the drain of the image's entrypoint, without a container."""

import os
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)  # each test starts a process
ENTRYPOINT = Path(__file__).resolve().parents[3] / "docker" / "entrypoint.py"


def run(*arguments: str, folder: Path) -> tuple[int, str]:
    variables = {
        "PATH": os.environ["PATH"],
        "PROGRESS_FOLDER": str(folder),
        "DRAIN_FILE": str(folder / "draining"),
        "DRAIN_SECONDS": "0",
    }
    done = subprocess.run(
        [sys.executable, ENTRYPOINT, *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
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


@pytest.mark.parametrize("arguments", [["probe", "wrok"], ["drain", "--help"], ["probe", "a", "b"]])
def test_an_unknown_argument_of_a_probe_never_acts(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "one").touch()
    status, printed = run(*arguments, folder=tmp_path)
    assert (status, printed[:6]) == (2, "usage:")
    assert not (tmp_path / "draining").exists()


def test_drain_makes_the_file_that_readiness_looks_for(tmp_path: Path) -> None:
    assert run("drain", folder=tmp_path) == (0, "")
    assert (tmp_path / "draining").exists()


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The entrypoint, which needs nothing and ends before it runs a program. Its current folder and
    its folder of progress files each have a file with text and one without."""
    spec = spec_from_file_location("entrypoint", ENTRYPOINT)
    assert spec
    assert spec.loader
    entrypoint = module_from_spec(spec)
    spec.loader.exec_module(entrypoint)
    for folder in ("current", "progress"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "empty").touch()
        (tmp_path / folder / "text").write_text("of another program")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setattr(entrypoint, "NEEDS", {})
    monkeypatch.setattr(entrypoint, "PROGRESS_FOLDER", str(tmp_path / "progress"))
    monkeypatch.setattr(entrypoint, "DRAIN_FILE", str(tmp_path / "draining"))
    monkeypatch.setattr(os, "execv", lambda *_: None)
    for name in ("PROGRESS_FOLDER", "DRAIN_FILE", "PROCESS", "PLACEMENT_STATEMENT_TIMEOUT_SECONDS"):
        monkeypatch.setenv(name, "")
    return entrypoint


@pytest.mark.parametrize("program", ["worker", "beat", "consumer"])
def test_a_start_removes_only_empty_files_of_the_progress_folder(
    started: Any, tmp_path: Path, program: str
) -> None:
    """An empty variable is as one that is not set. A path without text would be the current folder,
    and the image's folder has the code."""
    started.start(program, [])

    assert os.environ["PROGRESS_FOLDER"] == str(tmp_path / "progress")
    left = [sorted(os.listdir(tmp_path / folder)) for folder in ("current", "progress")]
    assert left == [["empty", "text"], ["text"]]


def test_a_start_of_the_web_server_removes_its_drain_file(started: Any, tmp_path: Path) -> None:
    (tmp_path / "draining").touch()
    started.start("web", [])

    assert os.environ["PLACEMENT_STATEMENT_TIMEOUT_SECONDS"] == "10"
    assert os.environ["DRAIN_FILE"] == str(tmp_path / "draining")
    assert not (tmp_path / "draining").exists()
