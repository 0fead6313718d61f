"""Checks `./dev status`, which reads the supervisor's run file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack import owner
from stack.__main__ import main
from stack.environment import CHECKOUT
from stack.files import write_json
from stack.processes import Recorded
from stack.report import status, status_text
from stack.runfile import ProcessState, Run, write_run
from stack.server import Server

WEB = ProcessState(name="web", pid=11, state="running")
POSTGRES = ProcessState(
    name="postgres", pid=None, state="restarting", failures=5, reason="disk full", kind="server"
)


def written(
    root: Path,
    *,
    shape: str = "monolith",
    state: str = "ready",
    supervisor: Recorded,
    processes: tuple[ProcessState, ...] = (WEB, POSTGRES),
) -> None:
    write_run(root, Run(shape=shape, state=state, supervisor=supervisor, processes=processes))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MITOSIS_STACK_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def ourselves() -> Recorded:
    return Recorded.of(os.getpid())


def test_status_is_the_documented_object(
    root: Path, ourselves: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Server, "port", 20000
    )  # the URL of every server; a cache node without a port isn't listed
    written(root, shape="services", supervisor=ourselves)

    found = status(root)

    assert found.keys() == {
        *("shape", "state", "urls", "processes", "databases", "streams", "ring", "admin"),
    }
    assert (found["shape"], found["state"]) == ("services", "ready")
    assert found["processes"] == [
        {"name": "web", "pid": 11, "state": "running", "failures": 0, "reason": ""},
        {
            "name": "postgres",
            "pid": None,
            "state": "restarting",
            "failures": 5,
            "reason": "disk full",
        },
    ]
    assert found["urls"]["accounts"] != found["urls"]["orders"]
    assert found["databases"]["orders"]["primary"].startswith("postgresql://orders:")
    assert len(found["databases"]["orders"]["replicas"]) == 1
    assert len(found["ring"]) == 3
    assert found["admin"].keys() == {"email", "password"}
    json.dumps(found)


def test_in_the_monolith_both_services_have_one_url(root: Path, ourselves: Recorded) -> None:
    written(root, supervisor=ourselves)

    urls = status(root)["urls"]

    assert urls["accounts"] == urls["orders"]
    assert "monolith" in status_text(root)


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ("starting", "The stack is starting as monolith, "),
        ("ready", "The stack is up as monolith, "),
        ("degraded", "The stack is up as monolith (degraded), "),
        ("stopping", "The stack is stopping as monolith, "),
    ],
)
def test_status_shows_the_state_of_the_stack_and_why_a_process_restarts(
    root: Path, ourselves: Recorded, state: str, title: str
) -> None:
    written(root, state=state, supervisor=ourselves)

    text = status_text(root)

    assert text.startswith(title)
    assert "postgres        -  restarting (5 times): disk full\n" in text


KILLED = Recorded(pid=os.getpid(), identity="another")


def test_the_stack_of_a_killed_supervisor_is_down(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(root, supervisor=KILLED)

    assert main(["status", "--json"]) == 1
    assert capsys.readouterr().err == "error: the stack is down; ./dev up starts it\n"


def test_status_names_the_processes_that_a_killed_supervisor_left(
    root: Path,
    ourselves: Recorded,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", root / "shared")
    web = ProcessState(name="web", pid=os.getpid(), state="running").identified()
    written(root, supervisor=KILLED, processes=(web, POSTGRES))
    # A server that started after the last change of the run file.
    write_json(
        owner.home_of(root) / "streams" / "state.json",
        {"pid": ourselves.pid, "identity": ourselves.identity},
    )

    assert main(["status"]) == 1
    error = capsys.readouterr().err
    assert f"left web ({os.getpid()}), streams ({os.getpid()}); ./dev down stops them" in error


def test_a_reader_that_ends_early_causes_no_error(root: Path, ourselves: Recorded) -> None:
    """As in `./dev status | head -1`."""
    written(root, supervisor=ourselves)
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "stack", "status"],
        cwd=CHECKOUT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("content", ["", "{}", '{"shape": 1, "processes": 2}'])
def test_a_damaged_run_file_is_read_as_no_run(
    root: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "run.json").write_text(content)

    assert main(["status"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_down_reports_that_nothing_is_running(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "nothing is running\n"


def test_an_unknown_service_is_refused_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE", "payments")

    assert main(["manage", "check"]) == 1
    assert "expected all, accounts or orders" in capsys.readouterr().err


def test_own_servers_need_two_deployments(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--own-servers"]) == 1
    assert capsys.readouterr().err.startswith("error: --own-servers needs --services")
    assert not (root / "run.json").exists()
