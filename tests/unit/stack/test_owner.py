"""Checks which folders the servers' user can enter, and where root stores the servers' data."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import owner
from stack.owner import ServerUser

OTHER_USER = ServerUser(uid=54_321, gid=54_321)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter. Other users can't enter pytest's folders."""
    folder = Path(tempfile.mkdtemp(prefix="mitosis-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_another_user_can_enter_open_folders(open_folder: Path) -> None:
    assert OTHER_USER.can_reach(open_folder)
    assert OTHER_USER.can_reach(open_folder / "yet" / "to" / "come")


def test_another_user_cannot_enter_below_a_closed_folder(open_folder: Path) -> None:
    below = open_folder / "closed" / "below"
    below.mkdir(parents=True)
    below.parent.chmod(0o700)

    assert not OTHER_USER.can_reach(below)


def test_the_current_user_needs_no_popen_arguments() -> None:
    current = ServerUser(uid=os.geteuid(), gid=os.getegid())

    assert current.popen_arguments() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_root_keeps_data_elsewhere_if_the_server_user_cannot_reach_it(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", open_folder)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    home = owner.open_home(closed / "stack")

    assert home.parent == open_folder
    assert owner.open_home(closed / "stack") == home


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_a_new_root_never_uses_the_data_of_a_deleted_one(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", open_folder)
    root = tmp_path / "closed" / "stack"
    root.mkdir(parents=True)
    root.parent.chmod(0o700)
    (owner.open_home(root) / "data").touch()

    (root / "home-mark").unlink()

    assert not (owner.open_home(root) / "data").exists()
