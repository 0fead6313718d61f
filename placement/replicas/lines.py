"""The open lines to replicas, so that whoever is held by a frozen one can be let go.

A server that stands still keeps its sockets, so no timeout of TCP ends them, and libpq knows none
for an answer. Shutting a socket down from another thread does: libpq sees its end, the reader gets
an error, and reads on the primary. What is shut down is a duplicate of libpq's descriptor, since
its number may be another connection's by then.
"""

import os
import socket
import threading
import weakref
from collections import defaultdict
from contextlib import suppress

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

Lines = weakref.WeakSet[socket.socket]


class Switchboard:
    """Every thread's connections to replicas, by alias."""

    def __init__(self) -> None:
        self._lines: dict[str, Lines] = defaultdict(weakref.WeakSet)
        self._changing = threading.Lock()

    def keep(self, alias: str, connection: object, descriptor: int) -> None:
        """Until the connection is gone."""
        line = socket.socket(fileno=os.dup(descriptor))
        with self._changing:
            self._lines[alias].add(line)
        weakref.finalize(connection, line.close)

    def hang_up(self, alias: str) -> None:
        """End what anybody waits for on this replica; they get django.db.OperationalError."""
        with self._changing:
            lines = list(self._lines[alias])
        for line in lines:
            with suppress(OSError):  # it is closed already
                line.shutdown(socket.SHUT_RDWR)


switchboard = Switchboard()


def keep_line(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    """A receiver of connection_created."""
    if any(connection.alias in aliases for aliases in settings.PLACEMENT_REPLICAS.values()):
        opened = connection.connection
        switchboard.keep(connection.alias, opened, opened.fileno())
