"""Queries with a deadline: after the deadline, a caller doesn't wait for a frozen server."""

import select
import time
from typing import Final

from django.db import connections

from ..drivers import Asynchronous, Wait, connect_asynchronously, driver
from .wal import Wal, wal_of

_MILLISECONDS: Final = 1000


class Unanswered(Exception):
    """The server didn't answer before the deadline."""


class Probe:
    """A thread's own connection to the server of `alias`, separate from Django's connections.

    The connection is asynchronous, because libpq's timeouts cover only connecting, and a frozen
    server doesn't enforce statement_timeout.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._session: Asynchronous | None = None
        self._first = 0  # index of the host to try first

    def ask(self, statement: str, *, within_seconds: float) -> Wal | None:
        """Return the answer, or None after the deadline; the next query then connects again."""
        wait = _until(time.monotonic() + within_seconds)
        try:
            row = self._connected(wait).ask(statement, wait)
        except (driver.Error, Unanswered):
            self.close()
            self._first += 1  # the next connection starts with another host
            return None
        return None if row is None else wal_of(row)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _connected(self, wait: Wait) -> Asynchronous:
        if self._session is None:
            parameters = dict(connections[self.alias].get_connection_params())
            for name in {"host", "port"} & parameters.keys():
                parameters[name] = _rotated(str(parameters[name]), self._first)
            self._session = connect_asynchronously(parameters, wait)
        return self._session


def _rotated(text: str, turns: int) -> str:
    """Put another host first: an asynchronous connection has no timeout per host in libpq."""
    items = text.split(",")
    first = turns % len(items)
    return ",".join(items[first:] + items[:first])


def _until(deadline: float) -> Wait:
    """A function that waits for a socket, and raises Unanswered after the deadline."""

    def wait(descriptor: int, to_read: bool) -> None:
        left = deadline - time.monotonic()
        ready = select.poll()  # select.select accepts no descriptor above 1023
        ready.register(descriptor, select.POLLIN if to_read else select.POLLOUT)
        if left <= 0 or not ready.poll(left * _MILLISECONDS):
            raise Unanswered

    return wait
