"""Sending a nudge never blocks the writer."""

import logging
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps

from outbox import tables
from outbox.streams import client
from outbox.streams.nudging import (
    CHECKING_SECONDS,
    RETRY_SECONDS,
    SKIP_SECONDS,
    Connection,
    Nudger,
    Outdated,
)
from outbox.streams.server import Located


class RecordedLine:
    """A connection that records each nudge and the thread that sent the nudge."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_cut = False
        self.is_closed = False

    def send(self, label: str) -> None:
        if self.is_cut:
            raise OSError("cut")
        self.sent.append((label, threading.current_thread().name))

    def close(self) -> None:
        self.is_closed = True


def test_the_first_nudge_opens_the_line_and_later_ones_are_sent_at_once() -> None:
    line = RecordedLine()
    nudger = Nudger(lambda: line)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    nudger.nudge("bank")
    assert line.sent == [("shop", "nudger"), ("bank", threading.current_thread().name)]


def test_a_relay_that_still_polls_is_not_nudged_again() -> None:
    line, now = RecordedLine(), [100.0]
    nudger = Nudger(lambda: line, clock=lambda: now[0])
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    for passed in (0.0, SKIP_SECONDS * 0.99):
        now[0] = 100.0 + passed
        nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["shop"]
    nudger.nudge("bank")  # a nudge for another relay
    now[0] = 100.0 + SKIP_SECONDS
    nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["shop", "bank", "shop"]
    assert SKIP_SECONDS < CHECKING_SECONDS


def test_after_a_failed_nudge_the_next_one_is_sent() -> None:
    lines = [RecordedLine(), RecordedLine()]
    begin: Callable[[], Connection] = iter(lines).__next__
    nudger = Nudger(begin, clock=lambda: 100.0)
    lines[0].is_cut = True
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert (len(lines[0].sent), len(lines[1].sent)) == (0, 1)


def test_while_no_master_has_the_slot_connections_are_opened_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[client.NudgeConnection] = []
    nobody: Any = SimpleNamespace(locate=lambda: Located([], valid_seconds=5.0))

    def begin() -> Connection:
        opened.append(client.NudgeConnection(nobody))
        return opened[-1]

    now = [100.0]
    nudger = Nudger(begin, clock=lambda: now[0])
    for _ in range(5):
        nudger.nudge("shop")
        nudger.flush(timeout_seconds=5)
        now[0] += SKIP_SECONDS
    assert len(opened) == 1
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.0)
    opened[0].send("shop")
    with pytest.raises(Outdated):  # after the pause
        opened[0].send("shop")


def test_nudging_does_not_wait_for_the_line_and_each_label_is_sent_once() -> None:
    line, may_open, in_time = RecordedLine(), threading.Event(), []

    def open_slowly() -> Connection:
        in_time.append(may_open.wait(10))
        return line

    nudger = Nudger(open_slowly)
    for label in ["shop", "bank"] * 50:
        nudger.nudge(label)
    assert line.sent == []
    may_open.set()
    nudger.flush(timeout_seconds=5)
    assert sorted(line.sent) == [("bank", "nudger"), ("shop", "nudger")]
    assert in_time == [True]


def test_a_dead_server_fails_no_nudge_and_is_retried_after_a_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts: list[float] = []

    def refuse() -> Connection:
        attempts.append(now)
        raise OSError("refused")

    now = 100.0
    nudger = Nudger(refuse, clock=lambda: now)
    with caplog.at_level(logging.WARNING, logger="outbox.streams.nudging"):
        for _ in range(3):
            nudger.nudge("shop")
            nudger.flush(timeout_seconds=5)
    assert attempts == [100.0]
    now += RETRY_SECONDS
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert len(attempts) == 2
    # The process's own nudger may log another error at this moment.
    line = "relays are not nudged: refused; trying again each second"
    assert caplog.messages.count(line) == 1
    nudger.close()
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert len(attempts) == 3


def test_a_cut_line_is_reopened_and_the_nudge_is_sent() -> None:
    lines = [RecordedLine(), RecordedLine()]
    begin: Callable[[], Connection] = iter(lines).__next__
    nudger = Nudger(begin)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    lines[0].is_cut = True
    nudger.nudge("bank")
    nudger.flush(timeout_seconds=5)
    assert lines[0].is_closed
    assert lines[1].sent == [("bank", "nudger")]


@pytest.mark.parametrize("late", [RecordedLine(), OSError("refused")], ids=["line", "error"])
def test_a_line_that_opens_after_the_close_is_not_used(
    monkeypatch: pytest.MonkeyPatch, late: RecordedLine | OSError
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    line = RecordedLine()

    def begin() -> Connection:
        if begun.is_set():
            return line
        begun.set()
        assert may_end.wait(10)
        if isinstance(late, OSError):
            raise late
        return late

    nudger = Nudger(begin, clock=lambda: 100.0)
    nudger.nudge("old")
    assert begun.wait(10)
    opener = nudger._opener
    assert opener is not None
    with monkeypatch.context() as patch:
        patch.setattr(nudger, "flush", lambda **_: None)  # as if the timeout had passed
        nudger.close()
    may_end.set()
    opener.join(10)
    nudger.nudge("new")
    nudger.flush(timeout_seconds=5)
    assert line.sent == [("new", "nudger")]
    if isinstance(late, RecordedLine):
        assert (late.sent, late.is_closed) == ([], True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_or_did_not_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    line, now = RecordedLine(), [100.0]
    openings = iter([SystemExit(), line])

    def open_once_more() -> Connection:
        opened = next(openings)
        if isinstance(opened, SystemExit):
            raise opened
        return opened

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    nudger = Nudger(open_once_more, clock=lambda: now[0])
    nudger.nudge("shop")  # SystemExit ends the thread
    nudger.flush(timeout_seconds=5)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        nudger.nudge("shop")
    now[0] += RETRY_SECONDS
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert line.sent == [("shop", "nudger")]


def test_flush_without_a_nudge_does_not_wait() -> None:
    nudger = Nudger(RecordedLine)
    nudger.flush(timeout_seconds=0)
    nudger.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_opens_its_own_line() -> None:
    read, write = os.pipe()

    class Pipe(RecordedLine):
        def __init__(self) -> None:
            self.pid = os.getpid()

        def send(self, label: str) -> None:
            os.write(write, b"%s by %s" % (label.encode(), b"own" if self.is_own else b"other"))

        @property
        def is_own(self) -> bool:
            return self.pid == os.getpid()

    nudger = Nudger(Pipe)
    nudger.nudge("parent")
    nudger.flush(timeout_seconds=5)
    assert os.read(read, 100) == b"parent by own"
    if (child := os.fork()) == 0:
        nudger.nudge("child")
        nudger.flush(timeout_seconds=5)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 100) == b"child by own"
    os.close(read)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_processes_share_which_nudges_to_skip() -> None:
    line, now = RecordedLine(), [100.0]
    nudger = Nudger(lambda: line, clock=lambda: now[0])
    nudger.share("shop")
    if (child := os.fork()) == 0:
        nudger.nudge("shop")
        nudger.nudge("own")
        nudger.flush(timeout_seconds=5)
        os._exit(0)
    os.waitpid(child, 0)
    nudger.nudge("shop")
    nudger.nudge("own")
    nudger.flush(timeout_seconds=5)
    assert [label for label, _ in line.sent] == ["own"]
    now[0] = 100.0 + SKIP_SECONDS
    nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["own", "shop"]


def test_the_nudger_shares_every_service_before_a_server_forks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared: list[str] = []
    monkeypatch.setattr(client.nudger, "share", shared.append)
    apps.get_app_config("outbox").ready()
    assert shared == [each.label for each in tables.every()] != []
