"""The folder `outbox` works unchanged after it is copied into another project and renamed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.project import REPOSITORY, WITHOUT_CACHES, Project, copy_shop

NAME = "mitosis_outbox"  # of the package that `./dev wheel` builds
EVENTS = 500

pytestmark = pytest.mark.shape("accounts", "orders")


class RenamedProject(Project):
    """The shop next to the renamed folder. Outside the checkout, `outbox` can't be imported."""

    settings = "settings"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.python_path = root / "project"
        shutil.copytree(REPOSITORY / "outbox", self.python_path / NAME, ignore=WITHOUT_CACHES)
        copy_shop(self.python_path, name=NAME)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = RenamedProject(tmp_path)
    try:
        project.start()
        yield project
    finally:
        project.stop()


def test_the_shop_publishes_and_consumes_with_the_outbox_under_another_name(
    project: Project, tmp_path: Path
) -> None:
    relay, consumer = project.spawn("outbox", "relay"), project.spawn("outbox", "consume")
    project.finish(project.spawn("load", "--events", str(EVENTS), "--seconds", "30", "--seed", "5"))
    project.settle()
    verdict = project.verdict()
    assert verdict.faultless, verdict
    assert verdict.committed >= EVENTS - 3  # three writers commit equal shares
    project.end(relay)
    project.end(consumer)

    project.finish(project.spawn("check", "--database", "default"))
    project.finish(project.spawn("outbox", "prune", "shop"))
    project.finish(project.spawn("outbox", "status", "--json"))
    report = json.loads((tmp_path / "processes.log").read_text().splitlines()[-1])
    assert report.keys() == {"services"}, "a project without placement must not import the ring"
    assert "replicas" not in report["services"]["shop"]


def test_nothing_in_the_folder_imports_it_by_name() -> None:
    named = [
        f"{file.relative_to(REPOSITORY)}:{number}"
        for file in sorted((REPOSITORY / "outbox").rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if line.lstrip().startswith(("from outbox", "import outbox")) and "as outbox  #" not in line
    ]
    assert not named
