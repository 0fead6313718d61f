from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The migrated example project on its own servers. Its processes end with the test."""
    project = Project(tmp_path)
    try:
        project.start()
        yield project
    finally:
        project.stop()
