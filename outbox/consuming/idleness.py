"""Measures how long a handler runs without a database call."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

DEFAULT_SECONDS = 5.0


def handler_idle_seconds() -> float:
    """The setting OUTBOX_HANDLER_IDLE_SECONDS: how long a handler may run between two statements.
    After that time PostgreSQL ends the session, and the event counts as failed."""
    return float(getattr(settings, "OUTBOX_HANDLER_IDLE_SECONDS", DEFAULT_SECONDS))


class Idleness:
    """Measures the longest time without a statement while a handler runs.

    The error of a session that PostgreSQL ended often says only that the connection is closed, as
    after a crash of the server. The measured time tells the two apart.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    @contextmanager
    def measured(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            with connection.execute_wrapper(self._measure):
                yield
        finally:
            self._count()

    def _measure(self, execute: Callable[..., Any], *statement: Any) -> Any:
        self._count()
        try:
            return execute(*statement)
        finally:
            self._since = time.monotonic()

    def _count(self) -> None:
        self.seconds = max(self.seconds, time.monotonic() - self._since)
