"""Work beside a test or a measurement, in threads that end with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDED_SECONDS = 60.0


@contextmanager
def meanwhile(*works: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    """Inside, each of `works` runs in a thread of its own. At the end `end` is called, after which
    they have to return.

    Raises the first exception that one of them raised, unless the block raises by itself, and
    AssertionError when one goes on.
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
    assert not any(thread.is_alive() for thread in threads), "a thread goes on"
