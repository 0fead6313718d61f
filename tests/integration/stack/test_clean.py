"""What cleaning ends and deletes, and what it leaves alone."""

import fcntl
from pathlib import Path

import pytest

from stack import commands
from stack.errors import StackError
from stack.valkey import Valkey
from tests.support.waiting import eventually


@pytest.fixture
def local(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a checkout keeps its data."""
    monkeypatch.setattr(commands, "LOCAL", root)
    return root


@pytest.fixture
def tests_server(local: Path) -> Valkey:
    """A server beside the stack, as tests and benchmarks start them."""
    folder = local / "test"
    folder.mkdir()
    server = Valkey(folder, "streams", append_only=False, password="for-tests")
    server.start()
    return server


def test_a_cleaned_root_leaves_the_servers_of_other_roots_running(
    local: Path, tests_server: Valkey
) -> None:
    try:
        (local / "bench").mkdir()
        commands.clean(local / "bench")
        assert tests_server.pid is not None
    finally:
        tests_server.stop()


def test_a_cleaned_checkout_has_no_server_left(local: Path, tests_server: Valkey) -> None:
    commands.clean_checkout(local / "stack")
    # Its first thread is gone; the others may need a moment more before it can be reaped.
    eventually(lambda: tests_server.pid is None, within_seconds=5, what="the server has ended")


def test_a_checkout_whose_tests_run_is_not_cleaned(local: Path, tests_server: Valkey) -> None:
    try:
        with (local / "test" / "users.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            with pytest.raises(StackError, match="let them end first"):
                commands.clean_checkout(local / "stack")
        assert tests_server.pid is not None
    finally:
        tests_server.stop()
