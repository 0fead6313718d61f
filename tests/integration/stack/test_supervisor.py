"""Supervision of trivial processes that die, ignore signals or leave children."""

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stack import processes, supervisor
from stack.child import HttpReady, ProcessSpec, alive_for
from stack.errors import StackError
from stack.ports import WebPorts, free_port, is_free
from stack.runfile import ProcessState
from stack.supervisor import Supervisor
from stack.terminal import Output
from stack.watch import ServerWatch
from tests.support.waiting import eventually


class FakeServer:
    """A server that is dead until its start; each start takes the next port."""

    name = "postgres"

    def __init__(self, *ports: int) -> None:
        self.ports = list(ports)
        self.port = self.ports.pop(0)
        self.pid: int | None = None
        self.errors: list[Exception] = []

    def start(self) -> None:
        if self.errors:
            raise self.errors.pop()
        self.port = self.ports.pop(0)
        self.pid = 1


def spec(name: str, script: str, *, wave: int = 1) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        command=("/bin/sh", "-c", script),
        environment={"PATH": "/usr/bin:/bin"},
        directory=Path("/"),
        ready=alive_for(0.0),
        stops_in_wave=wave,
    )


@pytest.fixture
def supervise(output: Output) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*specs: ProcessSpec, server: FakeServer | None = None) -> Supervisor:
        watch = ServerWatch([server] if server else [], output=output)
        made.append(Supervisor(output=output, servers=watch))
        made[-1].start(specs)
        return made[-1]

    yield make
    for one in made:
        one.stop()


def ticking(one: Supervisor, condition: Callable[[], object]) -> Callable[[], object]:
    def tick() -> object:
        one.tick()
        return condition()

    return tick


def test_a_killed_process_is_started_again(
    supervise: Callable[..., Supervisor], stream: io.StringIO
) -> None:
    one = supervise(spec("web", "exec sleep 60"))
    (web,) = one.supervised
    first = web.pid
    eventually(ticking(one, lambda: one.all_ready), within_seconds=30, what="ready")

    processes.send([first or 0], signal.SIGKILL)

    eventually(
        ticking(one, lambda: web.pid not in (None, first) and one.all_ready),
        within_seconds=30,
        what="another process",
    )
    assert "web was killed by SIGKILL; starting it again now" in stream.getvalue()


def test_a_process_that_keeps_failing_is_restarted_with_longer_pauses(
    supervise: Callable[..., Supervisor], stream: io.StringIO
) -> None:
    one = supervise(spec("worker", "echo no broker; exit 3"))

    eventually(ticking(one, one.failing), within_seconds=30, what="three early deaths")

    printed = stream.getvalue()
    assert "worker ended with status 3; starting it again now" in printed
    assert "worker ended with status 3; starting it again in 0.5 s" in printed
    assert "worker ended with status 3; starting it again in 1 s" in printed
    (state,) = one.states()
    assert str(state) == f"restarting ({state.failures} times): no broker"


def test_a_process_that_soon_ends_again_is_not_shown_as_running(
    supervise: Callable[..., Supervisor],
) -> None:
    seen: set[ProcessState] = set()
    one = supervise(spec("worker", "exit 3"))  # ready at once
    one.changed = lambda: seen.update(one.states())

    eventually(ticking(one, one.failing), within_seconds=30, what="three early exits")

    assert {found.state for found in seen if found.failures >= 2} == {"restarting"}


SERVER = """
import http.server, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
    connection.close()
"""


def test_only_the_own_web_server_answers_even_while_it_restarts(
    supervise: Callable[..., Supervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "EARLY_EXIT_SECONDS", 0.2)
    with closing(WebPorts(tmp_path / "ports.json", first=free_port()).listen("web")) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        serves = tmp_path / "serves"
        (tmp_path / "server.py").write_text(SERVER)
        web = ProcessSpec(
            name="web",
            command=(
                *("/bin/sh", "-c", f"test -e {serves} || exit 1; exec $0 $@"),
                *(sys.executable, str(tmp_path / "server.py"), str(fd)),
            ),
            environment={"PATH": "/usr/bin:/bin"},
            directory=Path("/"),
            ready=HttpReady(listener, "/"),
            inherits=(fd,),
        )
        one = supervise(web)
        eventually(ticking(one, one.failing), within_seconds=30, what="three exits")

        assert not is_free(port)  # another program can't answer in its place
        assert one.states()[0].state == "restarting"
        serves.touch()

        eventually(ticking(one, lambda: one.all_ready), within_seconds=30, what="its answer")


def test_processes_are_stopped_wave_by_wave(
    supervise: Callable[..., Supervisor], stream: io.StringIO
) -> None:
    until_stopped = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    one = supervise(spec("worker", until_stopped, wave=2), spec("web", until_stopped, wave=1))
    eventually(
        ticking(one, lambda: stream.getvalue().count("up\n") == 2), within_seconds=30, what="both"
    )
    shown: list[list[str]] = []
    one.changed = lambda: shown.append([state.state for state in one.states()])

    one.stop()

    assert shown == [["stopping", "stopping"], ["stopping", "stopped"], ["stopped", "stopped"], []]
    goodbyes = [line for line in stream.getvalue().splitlines() if line.endswith("bye")]
    assert [line.split()[0] for line in goodbyes] == ["web", "worker"]


def test_a_process_that_does_not_stop_is_killed_with_its_children(
    supervise: Callable[..., Supervisor],
    stream: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    ignores_term = "trap '' TERM; (trap '' TERM; exec sleep 60) & echo helper $!; wait; sleep 60"
    one = supervise(spec("web", ignores_term))
    eventually(
        ticking(one, lambda: "helper" in stream.getvalue()), within_seconds=30, what="the helper"
    )
    helper = int(stream.getvalue().split()[-1])
    pid = one.supervised[0].pid or 0

    one.stop()

    assert processes.wait_gone([pid, helper], timeout_seconds=30) == []
    assert "does not stop: killed" in stream.getvalue()


def test_a_second_stop_signal_kills_without_waiting(
    supervise: Callable[..., Supervisor],
    stream: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 600)  # longer than the timeout of the test
    one = supervise(spec("web", "trap 'echo no' TERM; echo up; while :; do sleep 0.01; done"))
    eventually(ticking(one, lambda: "up" in stream.getvalue()), within_seconds=30, what="web")

    def stop_again() -> None:
        eventually(
            lambda: "no\n" in stream.getvalue(), within_seconds=30, what="an ignored SIGTERM"
        )
        one.request_stop()

    one.request_stop()
    second = threading.Thread(target=stop_again)
    second.start()
    one.stop()
    second.join()

    assert "does not stop: killed" in stream.getvalue()


def test_a_failed_one_time_command_reports_its_last_line(
    supervise: Callable[..., Supervisor],
) -> None:
    one = supervise()

    one.run_once([spec("prepare", "echo fine")])
    with pytest.raises(StackError, match=r"^prepare failed: no such table$"):
        one.run_once([spec("prepare", "echo no such table; echo; exit 1")])


def test_a_long_line_without_an_end_is_split(
    supervise: Callable[..., Supervisor], stream: io.StringIO
) -> None:
    one = supervise()

    one.run_once([spec("web", "head -c 1000000 /dev/zero | tr '\\0' x")])

    assert max(len(line) for line in stream.getvalue().splitlines()) < 200_000
    assert stream.getvalue().count("x") == 1_000_000


def test_a_process_that_has_closed_its_output_does_not_keep_the_supervisor_busy(
    supervise: Callable[..., Supervisor], stream: io.StringIO, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    one = supervise(spec("web", f"echo up; exec >&- 2>&-; : > {closed}; exec sleep 60"))
    eventually(ticking(one, closed.exists), within_seconds=30, what="a closed output")
    one.tick()  # reads the end of the output

    started = time.monotonic()
    for _ in range(5):
        one.tick()

    assert time.monotonic() - started >= 5 * supervisor.TICK_SECONDS * 0.9
    assert one.all_ready
    assert stream.getvalue().endswith("up\n")


VANISHING = """
import io, sys
from pathlib import Path
from stack.child import ProcessSpec, alive_for
from stack.supervisor import Supervisor
from stack.terminal import Output
from stack.watch import ServerWatch
output = Output(Path(sys.argv[1]) / "log", stream=io.StringIO())
one = Supervisor(output=output, servers=ServerWatch([], output=output))
one.start([ProcessSpec(name="web", command=("/bin/sleep", "60"), environment={},
                       directory=Path("/"), ready=alive_for(0.0))])
print(one.supervised[0].pid, flush=True)
while True:
    one.tick()
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux kills the children of a dead process"
)
def test_processes_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", VANISHING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as vanishing:
        assert vanishing.stdout is not None
        child = int(vanishing.stdout.readline())
        assert processes.identity(child)

        vanishing.kill()

        assert processes.wait_gone([child], timeout_seconds=30) == []


@pytest.mark.parametrize(("port", "moved"), [(5001, None), (5002, "postgres")])
def test_a_dead_server_is_restarted_and_a_new_port_is_reported(
    supervise: Callable[..., Supervisor], stream: io.StringIO, port: int, moved: str | None
) -> None:
    server = FakeServer(5001, port)
    one = supervise(server=server)

    eventually(ticking(one, lambda: server.pid), within_seconds=30, what="its start")

    one.servers.finish()
    assert "postgres died; starting it again now" in stream.getvalue()
    assert one.servers.moved == moved


def test_a_server_that_does_not_start_is_tried_again(
    supervise: Callable[..., Supervisor],
    stream: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.watch.RETRY_SECONDS", 0.1)
    server = FakeServer(5001, 5001)
    server.errors = [StackError("postgres did not start: no"), OSError("the disk is full")]
    one = supervise(server=server)
    seen: set[str] = set()
    one.changed = lambda: seen.update(map(str, one.servers.states()))

    eventually(
        ticking(one, lambda: "running" in seen), within_seconds=30, what="its start is reported"
    )

    assert "cannot start postgres: OSError('the disk is full')" in stream.getvalue()
    assert "restarting (2 times): postgres did not start: no" in seen
    one.servers.is_stopping = True
    assert [state.state for state in one.servers.states()] == ["stopping"]
