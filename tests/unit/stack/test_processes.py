import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import processes
from stack.processes import Recorded


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"], cwd=tmp_path, start_new_session=True) as process:
        yield process
        process.kill()


def test_a_process_is_identified_by_more_than_its_pid(sleeper: subprocess.Popen[bytes]) -> None:
    ours = Recorded.of(sleeper.pid)
    earlier = Recorded(pid=sleeper.pid, identity="of the process that had this pid before")

    assert ours.is_running
    assert not earlier.is_running
    assert processes.session_members(earlier) == []


def test_a_dead_process_is_not_running(sleeper: subprocess.Popen[bytes]) -> None:
    ours = Recorded.of(sleeper.pid)

    sleeper.kill()

    assert processes.wait_gone([sleeper.pid], timeout_seconds=2.0) == []  # the process is a zombie
    assert not ours.is_running
    sleeper.wait()
    assert not ours.is_running


def test_a_process_without_an_identity_is_never_running() -> None:
    assert not Recorded(pid=1, identity="").is_running


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_is_found_by_folder_and_name_together(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert processes.working_in(tmp_path, executable="sleep") == [sleeper.pid]
    assert processes.working_in(tmp_path, executable="postgres") == []
    assert processes.working_in(tmp_path / "elsewhere", executable="sleep") == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_session_is_found_after_its_leader_has_ended() -> None:
    script = "sleep 60 & echo $!; read line"
    with subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        ours = Recorded.of(leader.pid)
        assert leader.stdin is not None
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        leader.stdin.close()
        leader.wait()

        assert processes.session_members(ours) == [left]
        processes.send([left], signal.SIGKILL)
