"""With an unusable stream server, `relay` and `consume` print one line each, no event is lost, and
work continues after the cause is fixed."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.project import REPOSITORY, Project
from tests.support.waiting import eventually

EVENTS = 40
COMMANDS = (("outbox", "relay", "shop"), ("outbox", "consume"))
OLD = "6.2.14"
OUTAGE_SECONDS = 120

# One shape is enough, since the example project is the same in each shape.
pytestmark = pytest.mark.shape("accounts", "orders")


class LoggedProcess:
    """A process of the shop with its own log file."""

    def __init__(self, project: Project, file: Path, *command: str, **environment: str) -> None:
        self.file = file
        with file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "django", *command],
                env={**project.environment, **environment},
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=REPOSITORY,
            )

    @property
    def lines(self) -> list[str]:
        return self.file.read_text(encoding="utf-8").splitlines()

    def logs(self, text: str) -> None:
        """Waits for the text. The line with the text must be the only line."""
        eventually(lambda: self.lines, within_seconds=30, what=f"{self.file.name} logs {text}")
        (line,) = self.lines
        assert text in line

    def fails(self, text: str) -> None:
        assert self.process.wait(30) == 1
        self.logs(text)


@pytest.fixture
def start(project: Project, tmp_path: Path) -> Iterator:
    """Starts `relay` and `consume`, and ends both processes after the test."""
    started: list[LoggedProcess] = []

    def start_both(**environment: str) -> list[LoggedProcess]:
        pair = [
            LoggedProcess(
                project, tmp_path / f"{len(started)}-{command[1]}", *command, **environment
            )
            for command in COMMANDS
        ]
        started.extend(pair)
        return pair

    yield start_both
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert len(one.lines) <= 1, one.lines


def load(project: Project) -> None:
    project.finish(
        project.spawn("load", *("--events", str(EVENTS), "--seconds", "30", "--seed", "1"))
    )


def assert_all_applied(project: Project) -> None:
    project.settle()
    verdict = project.verdict()
    assert verdict.committed >= EVENTS - 3  # three writers commit equal shares
    assert verdict.faultless, verdict


def test_processes_wait_for_a_server_that_does_not_answer(project: Project, start) -> None:
    project.valkey.stop()
    load(project)
    for one in start():
        one.logs("the stream server doesn't answer: ")
    project.valkey.start()
    assert_all_applied(project)


@pytest.mark.long
def test_a_server_that_is_too_old_is_refused_by_its_version(project: Project, start) -> None:
    load(project)
    with old_server() as url:
        for one in start(STRANGER_STREAMS_URL=url):
            one.fails(f"the stream server is Redis {OLD}; use 7.0 or newer")
    start()
    assert_all_applied(project)


def test_a_wrong_password_is_refused(project: Project, start) -> None:
    load(project)
    wrong = project.valkey.url.replace("faults@", "wrong@")
    for one in start(STRANGER_STREAMS_URL=wrong):
        one.fails("the stream server refuses the login: ")
    start()
    assert_all_applied(project)


@pytest.mark.long
def test_another_number_of_partitions_publishes_and_applies_nothing(
    project: Project, start
) -> None:
    first = start()
    load(project)
    assert_all_applied(project)
    for one in first:
        project.end(one.process)
    load(project)
    before = project.count("applied")
    for one in start(STRANGER_PARTITIONS="8"):
        one.logs("16 partitions and OUTBOX_PARTITIONS is 8")
        one.process.kill()
    assert project.count("applied") == before
    start()
    assert_all_applied(project)
    assert project.count("applied") > before


@pytest.mark.long
def test_processes_wait_for_a_full_server(project: Project, start) -> None:
    project.redis.config_set("maxmemory", 1)
    load(project)
    relay, consume = start()
    relay.logs("the stream server takes no writes: ")
    consume.logs("the stream server takes no writes: ")
    assert project.count("applied") == 0
    project.redis.config_set("maxmemory", 0)
    assert_all_applied(project)


def test_processes_wait_for_a_server_with_a_read_only_disk(project: Project, start) -> None:
    with read_only(project):
        load(project)
        relay, consume = start()
        relay.logs("the stream server takes no writes: ")
        consume.logs("the stream server takes no writes: ")
        assert project.count("applied") == 0
    assert_all_applied(project)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_processes_survive_an_outage_of_two_minutes(project: Project) -> None:
    processes = [project.spawn(*command) for command in COMMANDS]
    load(project)
    assert_all_applied(project)
    before = project.count("applied")
    project.valkey.stop()
    # Writers commit during the whole outage.
    slow = (
        "--events",
        "1000000",
        "--seconds",
        str(OUTAGE_SECONDS),
        "--seed",
        "2",
        "--pause",
        "0.1",
    )
    project.finish(project.spawn("load", *slow), within_seconds=2 * OUTAGE_SECONDS)
    assert project.count("applied") == before
    project.valkey.start()
    assert_all_applied(project)
    assert project.count("applied") > before
    assert [process.poll() for process in processes] == [None, None]
    for process in processes:
        project.end(process)


@contextmanager
def read_only(project: Project) -> Iterator[None]:
    """Makes snapshots fail. The server then refuses writes with MISCONF."""
    data = project.valkey.data
    project.redis.config_set("save", "3600 1")
    data.chmod(0o500)
    try:
        saves(project, "err")
        yield
    finally:
        data.chmod(0o700)
        saves(project, "ok")


def saves(project: Project, outcome: str) -> None:
    def tried() -> bool:
        found = project.redis.info("persistence")
        if found["rdb_last_bgsave_status"] == outcome:
            return True
        if not found["rdb_bgsave_in_progress"]:
            project.redis.bgsave()
        return False

    eventually(tried, within_seconds=20, what=f"a snapshot ends {outcome}")


@contextmanager
def old_server() -> Iterator[str]:
    """A server that answers INFO as an old server does, and every other command with OK."""
    listener = socket.create_server(("127.0.0.1", 0))
    info = f"# Server\r\nredis_version:{OLD}\r\n"
    answer = f"${len(info)}\r\n{info}\r\n".encode()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=reply, args=(client,), daemon=True).start()

    def reply(client: socket.socket) -> None:
        with client, suppress(OSError):
            while asked := client.recv(65536):
                commands = asked.upper().count(b"\r\n$") and asked.upper().split(b"*")[1:]
                for command in commands or ():
                    client.sendall(answer if b"\r\nINFO\r\n" in command else b"+OK\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
