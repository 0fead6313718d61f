"""Prints the steps of a show, and stops it at the first claim that isn't true."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from ..errors import StackError
from ..terminal import heading, show

WITHIN_SECONDS: Final = 10.0  # a wait in a show
_POLL_SECONDS: Final = 0.01
Found = TypeVar("Found")


class Untrue(StackError):
    """The stack doesn't do what the show claims. The message says what it did."""


class Waited(NamedTuple):
    """How long a wait took."""

    seconds: float

    def __str__(self) -> str:
        return milliseconds(self.seconds)


def title(text: str) -> None:
    show(heading(text))


def section(text: str) -> None:
    show(f"\n{heading(text)}")


def does(text: str) -> None:
    show(f"  {text}")


def saw(text: object) -> None:
    show(f"    -> {text}")


def claim(is_true: bool, otherwise: str) -> None:
    """Raise Untrue with the text `otherwise` unless the claim is true."""
    if not is_true:
        raise Untrue(otherwise)


def wait_until(
    condition: Callable[[], object], otherwise: str, *, within_seconds: float = WITHIN_SECONDS
) -> Waited:
    """Wait for the condition, and return how long it took. Raises Untrue at the deadline."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() > started_at + within_seconds:
            raise Untrue(f"{otherwise} (within {within_seconds:g} s)")
        time.sleep(_POLL_SECONDS)
    return Waited(time.monotonic() - started_at)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
