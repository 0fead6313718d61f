"""A stream server that can't be used: one clear line each from `relay` and `consume`, nothing
lost, and work that goes on once the cause is gone."""

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

# The stranger's shop is the same in every shape of ours: once is enough.
pytestmark = [pytest.mark.timeout(120), pytest.mark.shape("accounts", "orders")]


class Talking:
    """A process of the shop whose words are kept apart."""

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

    def says(self, words: str) -> None:
        """Wait until it has said this; it must be the one line that it says."""
        eventually(lambda: self.lines, within_seconds=30, what=f"{self.file.name} says {words}")
        (line,) = self.lines
        assert words in line

    def refuses(self, words: str) -> None:
        assert self.process.wait(30) == 1
        self.says(words)


@pytest.fixture
def talk(project: Project, tmp_path: Path) -> Iterator:
    """Starts relay and consume; what they say. They end with the test."""
    begun: list[Talking] = []

    def begin(**environment: str) -> list[Talking]:
        pair = [
            Talking(project, tmp_path / f"{len(begun)}-{command[0]}", *command, **environment)
            for command in COMMANDS
        ]
        begun.extend(pair)
        return pair

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert len(one.lines) <= 1, one.lines


def load(project: Project) -> None:
    project.finish(
        project.spawn("load", *("--events", str(EVENTS), "--seconds", "30", "--seed", "1"))
    )


def all_is_applied(project: Project) -> None:
    project.settle()
    verdict = project.verdict()
    assert verdict.committed >= EVENTS - 3  # in shares of three writers
    assert verdict.faultless, verdict


def test_a_server_that_does_not_answer_at_start_is_waited_for(project: Project, talk) -> None:
    project.valkey.stop()
    load(project)
    for one in talk():
        one.says("the stream server doesn't answer: ")
    project.valkey.start()
    all_is_applied(project)


@pytest.mark.long
def test_a_server_that_is_too_old_is_refused_by_its_version(project: Project, talk) -> None:
    load(project)
    with old_server() as url:
        for one in talk(STRANGER_STREAMS_URL=url):
            one.refuses(f"the stream server is Redis {OLD}; 7.0 is the oldest")
    talk()
    all_is_applied(project)


def test_a_wrong_password_is_refused(project: Project, talk) -> None:
    load(project)
    wrong = project.valkey.url.replace("faults@", "wrong@")
    for one in talk(STRANGER_STREAMS_URL=wrong):
        one.refuses("the stream server refuses us: ")
    talk()
    all_is_applied(project)


@pytest.mark.long
def test_another_number_of_partitions_publishes_and_applies_nothing(project: Project, talk) -> None:
    first = talk()
    load(project)
    all_is_applied(project)
    for one in first:
        project.end(one.process)
    load(project)
    before = project.count("applied")
    for one in talk(STRANGER_PARTITIONS="8"):
        one.says("16 partitions and OUTBOX_PARTITIONS is 8")
        one.process.kill()
    assert project.count("applied") == before
    talk()
    all_is_applied(project)
    assert project.count("applied") > before


@pytest.mark.long
def test_a_full_server_is_waited_for(project: Project, talk) -> None:
    project.redis.config_set("maxmemory", 1)
    load(project)
    relay, consume = talk()
    relay.says("the stream server takes no writes: ")
    consume.says("the stream server takes no writes: ")
    assert project.count("applied") == 0
    project.redis.config_set("maxmemory", 0)
    all_is_applied(project)


def test_a_server_whose_disk_is_read_only_is_waited_for(project: Project, talk) -> None:
    with read_only(project):
        load(project)
        relay, consume = talk()
        relay.says("the stream server takes no writes: ")
        consume.says("the stream server takes no writes: ")
        assert project.count("applied") == 0
    all_is_applied(project)


@contextmanager
def read_only(project: Project) -> Iterator[None]:
    """A snapshot that can't be written: the server then refuses writes, as MISCONF."""
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
    """Answers INFO as an old server would, and anything else with OK."""
    listener = socket.create_server(("127.0.0.1", 0))
    info = f"# Server\r\nredis_version:{OLD}\r\n"
    answer = f"${len(info)}\r\n{info}\r\n".encode()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
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
