"""A TCP proxy in front of the stream server, which can close connections or drop an answer."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 1.0


@dataclass(slots=True)
class Pair:
    """The two sockets of one proxied connection."""

    client: socket.socket
    server: socket.socket
    drops_answers: bool = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards bytes between clients and 127.0.0.1:`server_port()`."""

    def __init__(self, server_port: Callable[[], int]) -> None:
        self._server_port = server_port
        self._pairs: list[Pair] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Closes every connection."""
        for pair in self._pairs[:]:
            pair.cut()

    def drop_answers(self) -> None:
        """Drops the next answer on each open connection, then closes the connection."""
        for pair in self._pairs[:]:
            pair.drops_answers = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                address = (LOOPBACK, self._server_port())
                server = socket.create_connection(address, timeout=CONNECT_SECONDS)
            except OSError:
                client.close()
                continue
            self._join(client, server)

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(client, server)
        self._pairs.append(pair)
        ways = [
            threading.Thread(target=self._forward, args=(pair, source, sink), daemon=True)
            for source, sink in ((client, server), (server, client))
        ]
        for way in ways:
            way.start()
        threading.Thread(target=self._close_after, args=(pair, ways), daemon=True).start()

    def _forward(self, pair: Pair, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source is pair.server and pair.drops_answers:
                    break
                sink.sendall(data)
        pair.cut()

    def _close_after(self, pair: Pair, ways: list[threading.Thread]) -> None:
        for way in ways:
            way.join()
        pair.client.close()
        pair.server.close()
        self._pairs.remove(pair)
