"""`up`, `down` and `status` as processes: signals, kills and second starts."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from stack import processes
from stack.ports import LOOPBACK, WebPorts, free_port
from stack.runfile import Run, read_run
from tests.support.waiting import eventually

CHECKOUT = Path(__file__).resolve().parents[3]
DRIVER = "tests.integration.stack.trivial"
Started: TypeAlias = "subprocess.Popen[str]"

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def port() -> int:
    """The preferred port of `web`."""
    return free_port()


@pytest.fixture
def run(root: Path, port: int) -> Iterator[Callable[..., Started]]:
    """Starts the command line on `root`; its processes are killed after the test."""
    started: list[Started] = []

    def start(*arguments: str, stdout: int = subprocess.PIPE) -> Started:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", DRIVER, *arguments],
                cwd=CHECKOUT,
                env={**os.environ, "MITOSIS_STACK_ROOT": str(root), "MITOSIS_PORT": str(port)},
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_of(process: Started) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def ready(root: Path, process: Started) -> Run:
    def find() -> Run | None:
        found = read_run(root)
        is_ours = found is not None and found.supervisor.pid == process.pid
        return found if is_ours and found and found.state == "ready" else None

    run: Run = eventually(find, within_seconds=120, what="a ready stack")
    return run


def pids(run: Run) -> list[int]:
    return [process.pid for process in run.processes if process.pid]


def alive(run: Run) -> list[int]:
    return [pid for pid in pids(run) if processes.identity(pid)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_leaves_nothing_running(
    run: Callable[..., Started], root: Path, number: signal.Signals
) -> None:
    up = run("up")
    found = ready(root, up)
    assert len(alive(found)) == 8  # six servers, two processes

    up.send_signal(number)

    status, out, err = end_of(up)
    assert (status, err) == (0, "")
    assert "nothing is left running" in out
    assert alive(found) == []


def test_up_runs_on_when_the_reader_of_its_output_ends(
    run: Callable[..., Started], root: Path
) -> None:
    """As in `./dev up | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    up = run("up", stdout=writer)
    os.close(writer)
    found = ready(root, up)
    assert len(alive(found)) == 8

    up.send_signal(signal.SIGINT)

    status, _, err = end_of(up)
    assert status == 0
    assert err.startswith("the output is closed; ./dev down stops the stack")
    assert err.count("\n") == 1
    assert alive(found) == []


def test_up_says_when_another_program_uses_its_port_and_comes_back(
    run: Callable[..., Started], root: Path, port: int
) -> None:
    ports = WebPorts(root / "ports.json", first=port)
    with socket.create_server((LOOPBACK, port)):
        up = run("up")
        ready(root, up)
        other = ports.known("web")
        up.send_signal(signal.SIGINT)
        assert f"web uses port {other}: another program uses port {port}\n" in end_of(up)[1]

    ready(root, run("up"))

    assert ports.known("web") == port != other


def test_a_running_stack_is_shown_and_not_started_twice(
    run: Callable[..., Started], root: Path
) -> None:
    up = run("up")
    found = ready(root, up)

    same, shown, _ = end_of(run("up"))
    other, _, refused = end_of(run("up", "--services"))
    reported, answer, _ = end_of(run("status", "--json"))

    assert (same, other, reported) == (0, 1, 0)
    assert "The stack is up as monolith" in shown
    assert refused == ("error: the stack is up as monolith: ./dev down ends it, then try again\n")
    object_: dict[str, Any] = json.loads(answer)
    assert object_["state"] == "ready"
    assert [process["pid"] for process in object_["processes"]] == pids(found)
    assert {process["state"] for process in object_["processes"]} == {"running"}
    assert alive(found) == pids(found)


def test_down_stops_a_stack_of_another_terminal(run: Callable[..., Started], root: Path) -> None:
    up = run("up", "--services")
    found = ready(root, up)

    down, printed, _ = end_of(run("down"))
    again, printed_again, _ = end_of(run("down"))

    assert (down, again) == (0, 0)
    assert printed == "stopped; nothing is left running\n"
    assert printed_again == "nothing is running\n"
    assert end_of(up)[0] == 0
    assert alive(found) == []


def test_down_cleans_up_after_a_killed_supervisor(run: Callable[..., Started], root: Path) -> None:
    up = run("up")
    found = ready(root, up)
    up.kill()
    end_of(up)
    assert alive(found)  # the servers survive the supervisor
    status, _, error = end_of(run("status"))
    assert status == 1
    assert "the supervisor was killed and left " in error
    assert "postgres (" in error

    down, printed, _ = end_of(run("down"))

    assert (down, printed) == (0, "stopped; nothing is left running\n")
    assert alive(found) == []


def test_up_takes_over_from_a_killed_supervisor(run: Callable[..., Started], root: Path) -> None:
    first = run("up")
    before = ready(root, first)
    first.kill()
    end_of(first)

    second = run("up")
    after = ready(root, second)

    assert alive(before) == []
    assert alive(after) == pids(after)
    second.send_signal(signal.SIGINT)
    assert end_of(second)[0] == 0


def test_a_killed_server_is_started_again(run: Callable[..., Started], root: Path) -> None:
    up = run("up")
    (streams,) = [one for one in ready(root, up).processes if one.name == "streams"]

    processes.send([streams.pid or 0], signal.SIGKILL)

    def is_restarted() -> bool:
        found = read_run(root)
        states = [one for one in found.processes if one.name == "streams"] if found else []
        return [one.state for one in states if one.pid != streams.pid] == ["running"]

    eventually(is_restarted, within_seconds=60, what="another server")


def test_up_in_the_background_closes_its_output_when_ready(
    run: Callable[..., Started], root: Path
) -> None:
    up = run("up", "--background")
    assert up.stdout is not None

    printed = up.stdout.read()

    assert "processes ready" in printed
    assert "web is up" not in printed  # process output goes to the log only
    assert ready(root, up).is_alive
    assert end_of(run("down"))[0] == 0


def test_up_reports_an_unusable_data_folder_in_one_line(
    run: Callable[..., Started], root: Path
) -> None:
    root.rmdir()
    root.touch()

    status, _, err = end_of(run("up"))

    root.unlink()
    root.mkdir()
    assert status == 1
    assert err.startswith("error: cannot use ")
    assert "a file is where a folder must be" in err
    assert "MITOSIS_STACK_ROOT" in err
    assert err.count("\n") == 1
