"""A stop signal is received at every moment."""

import signal
from collections.abc import Iterator

import pytest

from outbox.management.subcommand import stop_on_signals

STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in STOPS]
    yield
    for number, handler in zip(STOPS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_that_interrupts_a_wait_stops_the_command(number: signal.Signals) -> None:
    stopping = stop_on_signals()
    with stopping._cond:  # type: ignore[attr-defined] # as inside `stopping.wait`
        signal.raise_signal(number)
    assert stopping.wait(5)
