"""Whether the servers' user gets to a folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import owner
from stack.owner import ServerUser

STRANGER = ServerUser(uid=54_321, gid=54_321)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="mitosis-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_stranger_enters_open_folders(open_folder: Path) -> None:
    assert STRANGER.can_reach(open_folder)
    assert STRANGER.can_reach(open_folder / "yet" / "to" / "come")


def test_a_stranger_does_not_enter_below_a_closed_folder(open_folder: Path) -> None:
    below = open_folder / "closed" / "below"
    below.mkdir(parents=True)
    below.parent.chmod(0o700)

    assert not STRANGER.can_reach(below)


def test_ourselves_are_not_changed_into_anybody() -> None:
    ourselves = ServerUser(uid=os.geteuid(), gid=os.getegid())

    assert ourselves.popen_arguments() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")
def test_root_keeps_data_elsewhere_when_nobody_can_get_to_it(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", open_folder)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    home = owner.open_home(closed / "stack")

    assert home.parent == open_folder
    assert owner.open_home(closed / "stack") == home


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")
def test_data_of_a_deleted_root_is_not_taken_over_by_its_successor(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", open_folder)
    root = tmp_path / "closed" / "stack"
    root.mkdir(parents=True)
    root.parent.chmod(0o700)
    (owner.open_home(root) / "data").touch()

    (root / "home-mark").unlink()

    assert not (owner.open_home(root) / "data").exists()
