"""Runs functions in threads during a test or a measurement."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDED_SECONDS = 60.0


@contextmanager
def meanwhile(*works: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    """Run each function of `works` in a thread during the block. After the block, call `end`; then
    all threads must return.

    Raises the first exception of a thread, unless the block raises. Raises AssertionError if a
    thread doesn't return.
    """
    raised: list[Exception] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - raised below
            raised.append(exc)

    threads = [threading.Thread(target=run, args=[work], daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end()
        for thread in threads:
            thread.join(ENDED_SECONDS)
    if raised:
        raise raised[0]
    assert not any(thread.is_alive() for thread in threads), "a thread is still running"
