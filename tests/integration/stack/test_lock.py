"""The lock of a data root: who holds it, and which process `down` ends."""

import fcntl
import signal
import subprocess
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from stack import commands, lock
from stack.errors import StackError, StackInUse
from stack.lock import RootLock
from stack.processes import Recorded
from stack.runfile import Run, write_run
from tests.support.waiting import eventually


@pytest.fixture
def holder(root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds the lock of the root, but hasn't written its pid yet."""
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen(["/bin/sleep", "600"], pass_fds=[file.fileno()])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_UNKNOWN_SECONDS", 0.01)


def written(root: Path, process: "subprocess.Popen[bytes]") -> None:
    recorded = Recorded.of(process.pid)
    (root / "lock").write_text(f"{recorded.pid} {recorded.identity}")


def test_down_ends_a_holder_whose_pid_it_learns_later(
    root: Path,
    holder: "subprocess.Popen[bytes]",
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, find = list[int | None](), RootLock.holder
    monkeypatch.setattr(RootLock, "holder", lambda self: found.append(find(self)) or found[-1])
    printed: list[str] = []
    down = threading.Thread(target=lambda: printed.append(commands.down(root)))
    down.start()
    eventually(lambda: found, within_seconds=30, what="the first look at the lock")
    assert found[0] == 0
    written(root, holder)

    assert holder.wait(30) == -signal.SIGTERM
    down.join(30)
    assert printed == ["stopped; nothing is left running"]


def test_a_process_that_has_the_pid_of_an_earlier_holder_is_not_the_holder(
    root: Path, holder: "subprocess.Popen[bytes]", impatient: None
) -> None:
    written(root, holder)
    assert RootLock(root).holder() == holder.pid
    (root / "lock").write_text(f"{holder.pid} of an earlier process")
    assert RootLock(root).holder() == 0
    with pytest.raises(StackInUse, match=r"^another process is running the stack"):
        RootLock(root).acquire()


def test_down_succeeds_if_the_holder_ends_before_its_signal(
    root: Path, holder: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.kill()
    holder.wait()
    answers = iter([holder.pid, holder.pid, None])
    monkeypatch.setattr(RootLock, "holder", lambda _: next(answers))
    assert commands.down(root) == "stopped; nothing is left running"


def test_down_ends_the_supervisor_of_an_earlier_release(
    root: Path, holder: "subprocess.Popen[bytes]", impatient: None
) -> None:
    """Its lock file has no identity; its run file has one."""
    (root / "lock").write_text(str(holder.pid))
    write_run(root, Run(shape="monolith", state="ready", supervisor=Recorded.of(holder.pid)))
    printed: list[str] = []
    down = threading.Thread(target=lambda: printed.append(commands.down(root)))
    down.start()
    assert holder.wait(30) == -signal.SIGTERM
    down.join(30)
    assert printed == ["stopped; nothing is left running"]


def test_down_ends_no_later_holder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another `down`, for which this one waits."""
    first, later = 4_194_305, 4_194_306  # no process has such a high pid
    sent: list[tuple[list[int], int]] = []
    monkeypatch.setattr(commands, "send", lambda *each: sent.append(each))
    answers = iter([first, first, later, later, None])
    monkeypatch.setattr(RootLock, "holder", lambda _: next(answers))
    commands.down(root)

    for limit in ("DOWN_SECONDS", "KILL_SECONDS"):
        monkeypatch.setattr(commands, limit, 0.05)
    answers = chain([first, first], repeat(later))
    with pytest.raises(StackError, match=f"^process {later} does not release the lock"):
        commands.down(root)
    assert sent == 2 * [([first], signal.SIGTERM)]


def test_the_lock_is_taken_after_another_process_has_tested_it(root: Path) -> None:
    waiting = RootLock(root)
    taking = threading.Thread(target=waiting.acquire)
    with (root / "lock").open("w") as tested:
        fcntl.flock(tested, fcntl.LOCK_EX)
        taking.start()
        taking.join(0.1)
        assert taking.is_alive()
    taking.join(30)
    assert waiting.is_held
    waiting.release()
