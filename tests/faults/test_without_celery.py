"""The outbox works in an environment without Celery: relay, consumers, retention and status."""

import json
from pathlib import Path

import pytest

from tests.faults.project import REPOSITORY, Project
from tests.support.waiting import eventually

EVENTS = 40

pytestmark = pytest.mark.shape("accounts", "orders")


def block(project: Project, folder: Path) -> None:
    """Let the import of Celery fail in every process that starts after this."""
    for name in ("celery", "kombu", "billiard"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('no {name}')\n")
    project.environment["PYTHONPATH"] = f"{folder}:{REPOSITORY}"


def report(project: Project, tmp_path: Path) -> dict:
    project.finish(project.spawn("outbox", "status", "--json"))
    line = (tmp_path / "processes.log").read_text().splitlines()[-1]
    return json.loads(line)["services"]["shop"]


def test_events_are_published_applied_confirmed_and_pruned(project: Project, tmp_path: Path):
    block(project, tmp_path / "blocked")
    project.environment |= {"STRANGER_RETENTION_SECONDS": "0", "STRANGER_USE_TZ": "no"}
    relay, consumer = project.spawn("outbox", "relay"), project.spawn("outbox", "consume")
    project.finish(
        project.spawn("load", *("--events", str(EVENTS), "--seconds", "30", "--seed", "1"))
    )
    project.settle()
    eventually(
        lambda: project.count("outboxevent") == 0, within_seconds=60, what="all rows are deleted"
    )
    assert project.count("applied") >= EVENTS - 3  # three writers commit equal shares
    (seen,) = report(project, tmp_path)["subscribers"].values()
    assert seen["silent_seconds"] < 30
    assert seen["saved_seconds"] < 60
    project.end(relay)
    project.end(consumer)
    project.finish(project.spawn("outbox", "prune", "shop"))
