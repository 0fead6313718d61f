"""Measures how long a handler runs without a database call."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings

DEFAULT_SECONDS = 5.0


def handler_idle_seconds() -> float:
    """The setting OUTBOX_HANDLER_IDLE_SECONDS: how long a handler may run between two statements.
    After that time PostgreSQL ends the session, and the event counts as failed."""
    return float(getattr(settings, "OUTBOX_HANDLER_IDLE_SECONDS", DEFAULT_SECONDS))


class Idleness:
    """The longest time between two statements, as a wrapper for Django's `execute_wrapper`.

    The error of a session that PostgreSQL ended often says only that the connection is closed, as
    after a crash of the server. The measured time tells the two apart.
    """

    def __init__(self) -> None:
        self._longest_seconds = 0.0
        self._since = time.monotonic()

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        self._longest_seconds = self.seconds
        try:
            return execute(*statement)
        finally:
            self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(self._longest_seconds, time.monotonic() - self._since)
