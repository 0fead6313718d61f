"""The sockets of connections to replicas: a shutdown ends the reads from a frozen server.

A frozen server keeps its sockets open, so no TCP timeout ends a read, and libpq doesn't limit how
long it waits for an answer. `shutdown` from another thread ends the read: libpq reports a closed
connection, and the request reads from the primary instead. The shutdown uses a duplicate of libpq's
descriptor, because the number of the original may belong to another connection by then.
"""

import os
import socket
import threading
import weakref
from collections import defaultdict
from contextlib import suppress

from django.db.backends.base.base import BaseDatabaseWrapper

from ..homes import replicas


class ReplicaSockets:
    """The sockets of every thread's connections to replicas, by alias."""

    def __init__(self) -> None:
        self._sockets: dict[str, weakref.WeakKeyDictionary[object, socket.socket]]
        self._sockets = defaultdict(weakref.WeakKeyDictionary)
        self._lock = threading.Lock()

    def add(self, alias: str, connection: object, descriptor: int) -> None:
        """Keep a duplicate of the socket until `connection` is garbage-collected. A connection of a
        pool is added again each time that it is used."""
        with self._lock:
            if connection in self._sockets[alias]:
                return
            duplicate = socket.socket(fileno=os.dup(descriptor))
            self._sockets[alias][connection] = duplicate
        weakref.finalize(connection, duplicate.close)

    def disconnect(self, alias: str) -> None:
        """End all reads from this replica; their threads get django.db.OperationalError."""
        with self._lock:
            sockets = list(self._sockets[alias].values())
        for each in sockets:
            with suppress(OSError):  # the socket is closed already
                each.shutdown(socket.SHUT_RDWR)


replica_sockets = ReplicaSockets()


def add_socket(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    """A receiver of connection_created: keep the sockets of connections to replicas."""
    if any(connection.alias in aliases for aliases in replicas().values()):
        opened = connection.connection
        replica_sockets.add(connection.alias, opened, opened.fileno())
