"""gunicorn's worker with deadlines for a request and for a response.

gunicorn itself waits for a slow client without a limit, and each such client occupies a thread.
Here a client has READ_SECONDS to send a request, its headers and its body together, and
WRITE_SECONDS to receive a response. Without a thread, a connection waits for its first byte.

A buffering proxy in front of the server does more: behind it, a slow client occupies no thread at
all (docker/nginx).
"""

import errno
import socket
import time
from typing import Any, Final

from gunicorn.workers import gthread

from config.requests import READ_SECONDS

WRITE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 0.5  # for a client to read the last response and close the connection
FIRST_BYTE_SECONDS: Final = 0.5  # for a new connection of a worker that stops
LEAST_SECONDS: Final = 0.001  # a timeout of 0 would make a socket non-blocking


class TimedSocket(socket.socket):
    """A client's socket. After the deadline of a request, a read finds the end of the stream, as if
    the client had closed it. So gunicorn and `whole_body` find an incomplete request. After the
    deadline of a response, a write finds a reset connection."""

    # Deadlines of time.monotonic(). The first part of a response sets its deadline.
    read_by = 0.0
    write_by: float | None = None
    late = ""  # what the client didn't do before a deadline

    def start_request(self) -> None:
        self.read_by, self.write_by = time.monotonic() + READ_SECONDS, None

    def setblocking(self, flag: bool, /) -> None:
        # gunicorn closes each connection. Without this condition, it would count a connection that
        # `handle` has closed twice, and a stopping worker would wait for no request.
        if self.fileno() >= 0:
            super().setblocking(flag)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        own, left = self.gettimeout(), self.read_by - time.monotonic()
        if own is not None and own <= left:
            return super().recv(bufsize, flags)
        self.settimeout(max(left, LEAST_SECONDS))
        try:
            return super().recv(bufsize, flags)
        except TimeoutError:
            self.late = f"send a request within {READ_SECONDS:g} s"
            return b""
        finally:
            self.settimeout(own)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        own, now = self.gettimeout(), time.monotonic()
        if self.write_by is None:
            self.write_by = now + WRITE_SECONDS
        self.settimeout(max(self.write_by - now, LEAST_SECONDS))
        try:
            super().sendall(data, flags)
        except TimeoutError as exc:  # of the whole call
            self.late = f"receive a response within {WRITE_SECONDS:g} s"
            raise ConnectionResetError(errno.ECONNRESET, f"the client didn't {self.late}") from exc
        finally:
            self.settimeout(own)


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    def set_accept_enabled(self, enabled: bool) -> None:
        """When this worker stops, serve the connections that wait, and close the listeners.

        gunicorn would keep the listeners open until the last request ends. Until then the kernel
        would complete new connections, and their requests would be lost. A proxy repeats a request
        only if its connection is refused, or if the request may run twice.
        """
        super().set_accept_enabled(enabled)
        # gunicorn also calls this with True if the signal came before the worker had started, and
        # with False after it.
        if enabled or self.alive:
            return
        for listener in self.sockets:
            before = -1
            while before < self.nr_conns:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle(self, conn: Any) -> Any:
        """Serve one request of this connection; returns whether it stays open.

        A connection that ends is closed here. gunicorn would close it in its main thread, where the
        wait for the client, two seconds, delays all other clients.
        """
        if not isinstance(conn.sock, TimedSocket):
            conn.sock = TimedSocket(fileno=conn.sock.detach())
        if not conn.initialized and not conn.wait_for_data(0 if self.alive else FIRST_BYTE_SECONDS):
            return gthread._DEFER  # noqa: SLF001 - the poller waits for the first byte
        conn.sock.start_request()
        stays_open = super().handle(conn)
        if conn.sock.late:
            self.log.warning("a client didn't %s", conn.sock.late)
        elif stays_open:
            return True
        else:
            conn.sock.read_by = time.monotonic() + CLOSE_SECONDS
        conn.close(graceful=True)
        return False
