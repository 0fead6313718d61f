"""Nudges that nobody waits for."""

import logging
import os
import threading
from collections.abc import Callable

import pytest
from django.apps import apps

from outbox import streams, tables
from outbox.streams.nudging import LOOKING_SECONDS, SPARED_SECONDS, Line, Nudger


class Noted:
    """A line that notes what was sent, and by which thread."""

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
    line = Noted()
    nudger = Nudger(lambda: line)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    nudger.nudge("bank")
    assert line.sent == [("shop", "nudger"), ("bank", threading.current_thread().name)]


def test_what_a_nudged_relay_goes_on_looking_for_is_not_nudged_for() -> None:
    line, now = Noted(), [100.0]
    nudger = Nudger(lambda: line, clock=lambda: now[0])
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    for passed in (0.0, SPARED_SECONDS * 0.99):
        now[0] = 100.0 + passed
        nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["shop"]
    nudger.nudge("bank")  # another relay's
    now[0] = 100.0 + SPARED_SECONDS
    nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["shop", "bank", "shop"]
    assert SPARED_SECONDS < LOOKING_SECONDS


def test_a_nudge_that_was_not_sent_spares_none() -> None:
    lines = [Noted(), Noted()]
    begin: Callable[[], Line] = iter(lines).__next__
    nudger = Nudger(begin, clock=lambda: 100.0)
    lines[0].is_cut = True
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert (len(lines[0].sent), len(lines[1].sent)) == (0, 1)


def test_who_nudges_does_not_wait_for_a_line_and_what_piled_up_is_sent_once() -> None:
    line, answered, in_time = Noted(), threading.Event(), []

    def slowly() -> Line:
        in_time.append(answered.wait(2))
        return line

    nudger = Nudger(slowly)
    for label in ["shop", "bank"] * 50:
        nudger.nudge(label)
    assert line.sent == []
    answered.set()
    nudger.flush(timeout_seconds=5)
    assert sorted(line.sent) == [("bank", "nudger"), ("shop", "nudger")]
    assert in_time == [True]


def test_a_dead_server_fails_no_nudge_and_is_left_alone_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[str] = []

    def refused() -> Line:
        asked.append("")
        raise OSError("refused")

    nudger = Nudger(refused)
    with caplog.at_level(logging.WARNING, logger="outbox.nudging"):
        for _ in range(3):
            nudger.nudge("shop")
            nudger.flush(timeout_seconds=5)
    assert len(asked) == 1
    assert "not nudged for a while: refused" in caplog.text
    nudger.close()
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert len(asked) == 2


def test_a_line_that_was_cut_is_opened_anew_and_the_nudge_is_not_lost() -> None:
    lines = [Noted(), Noted()]
    begin: Callable[[], Line] = iter(lines).__next__
    nudger = Nudger(begin)
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    lines[0].is_cut = True
    nudger.nudge("bank")
    nudger.flush(timeout_seconds=5)
    assert lines[0].is_closed
    assert lines[1].sent == [("bank", "nudger")]


def test_without_a_nudge_nothing_is_waited_for() -> None:
    nudger = Nudger(Noted)
    nudger.flush(timeout_seconds=0)
    nudger.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_opens_a_line_of_its_own() -> None:
    read, write = os.pipe()

    class Pipe(Noted):
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
def test_a_forked_process_spares_its_kin_what_was_shared() -> None:
    line, now = Noted(), [100.0]
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
    now[0] = 100.0 + SPARED_SECONDS
    nudger.nudge("shop")
    assert [label for label, _ in line.sent] == ["own", "shop"]


def test_every_service_is_shared_before_a_server_can_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared: list[str] = []
    monkeypatch.setattr(streams.nudger, "share", shared.append)
    apps.get_app_config("outbox").ready()
    assert shared == [each.label for each in tables.every()] != []
