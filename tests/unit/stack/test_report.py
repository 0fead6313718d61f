"""Checks `./dev status`, which reads the supervisor's run file."""

import json
import os
from pathlib import Path

import pytest

from stack.__main__ import main
from stack.processes import Recorded
from stack.report import status, status_text
from stack.runfile import ProcessState, Run, write_run
from stack.server import Server


def written(root: Path, *, shape: str, supervisor: Recorded) -> None:
    write_run(
        root,
        Run(
            shape=shape,
            state="ready",
            supervisor=supervisor,
            processes=(
                ProcessState(name="web", pid=11, state="running"),
                ProcessState(name="postgres", pid=None, state="restarting", kind="server"),
            ),
        ),
    )


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
        *("shape", "urls", "processes", "databases", "streams", "ring", "admin"),
    }
    assert found["shape"] == "services"
    assert found["processes"] == [
        {"name": "web", "pid": 11, "state": "running"},
        {"name": "postgres", "pid": None, "state": "restarting"},
    ]
    assert found["urls"]["accounts"] != found["urls"]["orders"]
    assert found["databases"]["orders"]["primary"].startswith("postgresql://orders:")
    assert len(found["databases"]["orders"]["replicas"]) == 1
    assert len(found["ring"]) == 3
    assert found["admin"].keys() == {"email", "password"}
    json.dumps(found)


def test_in_the_monolith_both_services_have_one_url(root: Path, ourselves: Recorded) -> None:
    written(root, shape="monolith", supervisor=ourselves)

    urls = status(root)["urls"]

    assert urls["accounts"] == urls["orders"]
    assert "monolith" in status_text(root)


def test_the_stack_of_a_killed_supervisor_is_down(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(root, shape="monolith", supervisor=Recorded(pid=os.getpid(), identity="another"))

    assert main(["status", "--json"]) == 1
    assert capsys.readouterr().err == "error: the stack is down; ./dev up starts it\n"


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
