"""The cleaning of a data root or a checkout: which servers it stops, and when it fails."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import commands, server
from stack.errors import StackError
from stack.valkey import Valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def local(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a checkout."""
    monkeypatch.setattr(commands, "LOCAL", root)
    return root


@pytest.fixture
def tests_server(local: Path) -> Iterator[Valkey]:
    """A server outside the stack, like the servers of tests and benchmarks."""
    folder = local / "test"
    folder.mkdir()
    server = Valkey(folder, "streams", append_only=False, password="for-tests")
    server.start()
    yield server
    server.stop()


def test_cleaning_a_root_keeps_the_servers_of_other_roots(
    local: Path, tests_server: Valkey
) -> None:
    (local / "bench").mkdir()
    commands.clean(local / "bench")
    assert tests_server.pid is not None


def test_cleaning_a_checkout_stops_its_servers_but_not_while_tests_run(
    local: Path, tests_server: Valkey
) -> None:
    with (local / "test" / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(StackError, match="wait until they end"):
            commands.clean_checkout(local / "stack")
    assert tests_server.pid is not None

    (local / "environments" / "markdown_it" / "rules_block").mkdir(parents=True)  # of a package
    commands.clean_checkout(local / "stack")
    # The first thread of the server has ended; the other threads may still run for a moment.
    eventually(lambda: tests_server.pid is None, within_seconds=60, what="the end of the server")


def test_a_server_does_not_start_while_one_of_an_earlier_run_cannot_be_ended(
    local: Path, tests_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tests_server.pid
    for limit in ("_STOP_SECONDS", "_QUIT_SECONDS"):
        monkeypatch.setattr(server, limit, 0.05)
    monkeypatch.setattr(server.processes, "send", lambda *_: None)  # as in an uninterruptible sleep
    second = Valkey(tests_server.root, "streams", append_only=False, password="for-tests")
    with pytest.raises(StackError, match=f"^streams: process {before} of an earlier run does not"):
        second.start()
    monkeypatch.undo()
    assert tests_server.pid == before
