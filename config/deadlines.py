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

WRITE_SECONDS: Final = 30.0  # also the limit of each wait while a file is sent
CLOSE_SECONDS: Final = 0.5  # for a client to read the last response and close the connection


class TimedSocket(socket.socket):
    """A client's socket. After the deadline of a request, a read finds the end of the stream, as if
    the client had closed it. So gunicorn and `whole_body` find an incomplete request."""

    ends_at = float("inf")  # of time.monotonic()
    is_late = False  # the request wasn't complete at its deadline

    def setblocking(self, flag: bool, /) -> None:
        self.settimeout(WRITE_SECONDS if flag else 0.0)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        own, left = self.gettimeout(), self.ends_at - time.monotonic()
        if own is not None and own <= left:
            return super().recv(bufsize, flags)
        self.settimeout(max(left, 0.001))
        try:
            return super().recv(bufsize, flags)
        except TimeoutError:
            self.is_late = True
            return b""
        finally:
            self.settimeout(own)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        try:
            super().sendall(data, flags)
        except TimeoutError as exc:  # of the whole call
            reason = f"the client didn't receive a response within {WRITE_SECONDS:g} s"
            raise ConnectionResetError(errno.ECONNRESET, reason) from exc


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    def handle(self, conn: Any) -> Any:
        """Serve one request of this connection; returns whether it stays open.

        A connection that ends is closed here. gunicorn would close it in its main thread, where the
        wait for the client, two seconds, delays all other clients.
        """
        if not isinstance(conn.sock, TimedSocket):
            conn.sock = TimedSocket(fileno=conn.sock.detach())
        if not conn.initialized and not conn.wait_for_data(0):
            return gthread._DEFER  # noqa: SLF001 - the poller waits for the first byte
        conn.sock.ends_at = time.monotonic() + READ_SECONDS
        stays_open = super().handle(conn)
        if conn.sock.is_late:
            self.log.warning("a client didn't send a request within %g s", READ_SECONDS)
        elif stays_open:
            return True
        else:
            conn.sock.ends_at = time.monotonic() + CLOSE_SECONDS
        conn.close(graceful=True)
        return False
