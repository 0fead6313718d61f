"""Checks that a process notices the end of each of its threads."""

import threading

import pytest

from outbox.management import threads as module
from outbox.management.threads import Threads


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without the lines of other threads, such as the nudger's."""
    return [record.getMessage() for record in caplog.records if record.name == module.__name__]


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("ends", "why"),
    [(fail, "ValueError: no"), (lambda: None, "it returned")],
    ids=["raises", "returns"],
)
def test_a_thread_that_ends_stops_the_others(ends, why, caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    threads = Threads(stopping)
    threads.start("waiting", lambda: stopping.wait(4))
    threads.start("ending", ends)
    assert not threads.join()
    assert logged(caplog) == [f"the thread ending has ended, so this process stops: {why}"]


def test_threads_that_end_after_a_stop_have_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    threads = Threads(stopping)
    threads.start("waiting", lambda: stopping.wait(4))
    stopping.set()
    assert threads.join()
    assert not logged(caplog)


def test_a_thread_that_hangs_keeps_no_process_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)
    released = threading.Event()
    threads = Threads(threading.Event())
    threads.start("hanging", lambda: released.wait(4))
    threads.start("ending", fail)
    try:
        assert not threads.join()
        assert threads._threads[0].is_alive()
        assert threads._threads[0].daemon
    finally:
        released.set()
