"""Queries with a deadline: after the deadline, a caller doesn't wait for a frozen server."""

import select
import time
from typing import Final

import psycopg2
from django.db import connections
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

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
        self._connection: Connection | None = None
        self._first = 0  # index of the host to try first

    def ask(self, statement: str, *, within_seconds: float) -> Wal | None:
        """Return the answer, or None after the deadline; the next query then connects again."""
        deadline = time.monotonic() + within_seconds
        try:
            connection = self._connected(deadline)
            with connection.cursor() as cursor:
                cursor.execute(statement)
                _wait_until_ready(connection, deadline)
                row = cursor.fetchone()
        except (psycopg2.Error, Unanswered):
            self.close()
            self._first += 1  # the next connection starts with another host
            return None
        return None if row is None else wal_of(row)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, deadline: float) -> Connection:
        if self._connection is None:
            parameters = dict(connections[self.alias].get_connection_params())
            for name in {"host", "port"} & parameters.keys():
                parameters[name] = _rotated(str(parameters[name]), self._first)
            self._connection = psycopg2.connect(**parameters, async_=True)
            _wait_until_ready(self._connection, deadline)
        return self._connection


def _rotated(text: str, turns: int) -> str:
    """Put another host first: an asynchronous connection has no timeout per host in libpq."""
    items = text.split(",")
    first = turns % len(items)
    return ",".join(items[first:] + items[:first])


def _wait_until_ready(connection: Connection, deadline: float) -> None:
    while (state := connection.poll()) != POLL_OK:
        left = deadline - time.monotonic()
        ready = select.poll()  # select.select accepts no descriptor above 1023
        ready.register(connection, select.POLLIN if state == POLL_READ else select.POLLOUT)
        if left <= 0 or not ready.poll(left * _MILLISECONDS):
            raise Unanswered
