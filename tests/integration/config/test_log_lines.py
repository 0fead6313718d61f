"""Every line that a container's process writes is one JSON object."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.surroundings import CHECKOUT, NOWHERE, variables
from tests.support.waiting import eventually
from tests.support.web import web_server


def environment(**changes: str) -> dict[str, str]:
    """The environment of a container, whose servers don't answer."""
    return {
        **variables(),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "PLACEMENT_ADMIN_DATABASE_URL": f"postgresql://root:s3cret@{NOWHERE}/nowhere",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "WAIT_SECONDS": "0",
        **changes,
    }


def lines_of(program: str, source: Mapping[str, str]) -> list[dict[str, Any]]:
    """The lines of a program that fails."""
    ended = subprocess.run(
        [sys.executable, "docker/entrypoint.py", program],
        cwd=CHECKOUT,
        env=dict(source),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    return [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines()]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("provision", "gave up waiting for administrator: "),
        ("worker", "gave up waiting for migrations: "),
        ("migrate", "the process ends: "),
    ],
)
def test_a_program_that_fails_writes_objects(program: str, expected: str) -> None:
    lines = lines_of(program, environment())

    assert {line["process"] for line in lines} == {program}
    assert lines[-1]["message"].startswith(expected)
    assert lines[-1]["level"] in {"ERROR", "CRITICAL"}
    assert "s3cret" not in json.dumps(lines)


def test_a_program_without_a_usable_environment_writes_objects() -> None:
    lines = lines_of("web", environment(STREAMS_URL=""))
    assert [line["message"].partition(" ")[0] for line in lines] == ["the", "STREAMS_URL"]


def test_the_web_server_writes_objects_and_answers_with_the_id_of_its_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("ab") as output,
        web_server(environment(PROCESS="web"), output=output) as url,
    ):
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{url}/nowhere/ada@example.com?token=s3cret")  # noqa: S310 - http
        request_id = refused.value.headers["X-Request-ID"]
        refused.value.close()
        eventually(
            lambda: len(about(log, request_id)) == 2,
            within_seconds=30,
            what="the lines of Django and of gunicorn",
        )
        found = {line["logger"]: line for line in about(log, request_id)}

    access = found["gunicorn.access"]
    assert found["django.request"]["message"] == "Not Found: /nowhere/<email>"
    assert [access[name] for name in ("process", "method", "path", "status", "trace_id")] == [
        *("web", "GET", "/nowhere/<email>", 404, request_id)
    ]
    assert access["ms"] >= 0
    assert "s3cret" not in log.read_text()
    assert all(json.loads(line)["process"] == "web" for line in log.read_text().splitlines())


def test_the_lines_of_celery_are_objects_also_those_about_a_signal() -> None:
    command = (
        *("celery", "--quiet", "--app", "config", "worker", "--pool", "threads"),
        *("--without-mingle", "--without-gossip"),
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=CHECKOUT,
        env=environment(PROCESS="worker"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert worker.stdout is not None
    before = []
    for line in worker.stdout:  # until it has tried to reach the broker
        before.append(line)
        if "Cannot connect" in line:
            break
    worker.terminate()
    after, _ = worker.communicate(timeout=60)

    lines = [json.loads(line) for line in [*before, *after.splitlines()]]
    assert {line["process"] for line in lines} == {"worker"}
    assert [line for line in lines if "shutdown" in line["message"]]


def about(log: Path, request_id: str) -> list[dict[str, Any]]:
    whole, _, _ = log.read_text().rpartition("\n")  # a line may be half written
    entries = map(json.loads, whole.splitlines())
    return [entry for entry in entries if entry.get("request_id") == request_id]
