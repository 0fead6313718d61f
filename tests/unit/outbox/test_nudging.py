"""Nudges that nobody waits for."""

import logging
import os
import threading

import pytest

from outbox.nudging import Nudger


def test_a_nudge_is_sent_by_another_thread() -> None:
    senders: list[str] = []
    nudger = Nudger(lambda _: senders.append(threading.current_thread().name))
    nudger.nudge("shop")
    nudger.flush(timeout_seconds=5)
    assert senders == ["nudger"]


def test_who_nudges_does_not_wait_and_what_piled_up_is_sent_once() -> None:
    answered = threading.Event()
    sent: list[str] = []

    def send(label: str) -> None:
        answered.wait(5)
        sent.append(label)

    nudger = Nudger(send)
    for label in ("first", *["shop", "bank"] * 50):
        nudger.nudge(label)
    assert sent == []
    answered.set()
    nudger.flush(timeout_seconds=5)
    assert len(sent) <= 5
    assert set(sent) == {"first", "shop", "bank"}


def test_a_send_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    def send(label: str) -> None:
        sent.append(label)
        raise ValueError(label)

    nudger = Nudger(send)
    with caplog.at_level(logging.ERROR, logger="outbox.nudging"):
        for label in ("shop", "bank"):
            nudger.nudge(label)
            nudger.flush(timeout_seconds=5)
    assert sent == ["shop", "bank"]
    assert "not nudged" in caplog.text


def test_without_a_nudge_nothing_is_waited_for() -> None:
    Nudger(lambda _: None).flush(timeout_seconds=0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_nudges_by_itself() -> None:
    read, write = os.pipe()
    nudger = Nudger(lambda label: os.write(write, label.encode()))
    nudger.nudge("parent")
    nudger.flush(timeout_seconds=5)
    assert os.read(read, 100) == b"parent"
    if (child := os.fork()) == 0:
        nudger.nudge("child")
        nudger.flush(timeout_seconds=5)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 100) == b"child"
    os.close(read)
