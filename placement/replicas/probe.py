"""A connection that is asked under a deadline: a frozen server costs that much and no more."""

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
    """The deadline passed."""


class Probe:
    """Asks the server behind `alias`, beside Django's connections; for one thread.

    libpq's own timeouts cover connecting only, and statement_timeout is kept by the server: it
    helps nobody when that is what stands still. So the connection is asynchronous.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._connection: Connection | None = None
        self._first = 0  # of the address's hosts, whom to try first

    def ask(self, statement: str, *, within_seconds: float) -> Wal | None:
        """None if it didn't answer; the next question then goes by a new connection."""
        deadline = time.monotonic() + within_seconds
        try:
            connection = self._connected(deadline)
            with connection.cursor() as cursor:
                cursor.execute(statement)
                _finish(connection, deadline)
                row = cursor.fetchone()
        except (psycopg2.Error, Unanswered):
            self.close()
            self._first += 1  # one that hangs must not keep us from the next
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
            _finish(self._connection, deadline)
        return self._connection


def _rotated(listed: str, turns: int) -> str:
    """libpq tries hosts in their order, and has no deadline for each in an asynchronous session."""
    items = listed.split(",")
    first = turns % len(items)
    return ",".join(items[first:] + items[:first])


def _finish(connection: Connection, deadline: float) -> None:
    while (state := connection.poll()) != POLL_OK:
        left = deadline - time.monotonic()
        ready = select.poll()  # not select.select, which takes no descriptor above 1023
        ready.register(connection, select.POLLIN if state == POLL_READ else select.POLLOUT)
        if left <= 0 or not ready.poll(left * _MILLISECONDS):
            raise Unanswered
