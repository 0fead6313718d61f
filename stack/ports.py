"""Free TCP ports on the loopback address, and the sockets of the web servers."""

import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from .errors import StackError
from .files import read_json, write_json

LOOPBACK: Final = "127.0.0.1"
# Below the kernels' ranges for outgoing connections (Linux 32768+, macOS 49152+), so that other
# processes' connections rarely use a server's port when the server starts again.
_RANGE: Final = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(*, preferred: int | None = None) -> int:
    """Return the preferred port if it is free, else a random free port.

    Another process may bind the port first: callers check which process listens, and try again.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    for port in random.sample(_RANGE, k=len(_RANGE)):
        if is_free(port):
            return port
    raise OSError("no free TCP port on 127.0.0.1")


class WebPorts:
    """The ports of the web servers, by process name. A file keeps those of the last run."""

    FIRST: Final = 8000
    _ORDER: Final = ("web", "accounts-web", "orders-web")
    # 8010 is easy to remember for a user of 8000, and isn't the port of another web server.
    _STEP: Final = 10
    _NEAR: Final = 500

    def __init__(self, file: Path, *, first: int = FIRST) -> None:
        self._file = file
        self._first = first

    def preferred(self, name: str) -> int:
        """The port of this web server if no other process uses the port."""
        return self._first + self._ORDER.index(name)

    def known(self, name: str) -> int:
        """The port of the last run; before the first run, the preferred port."""
        return int(read_json(self._file).get(name) or self.preferred(name))

    def listen(self, name: str) -> socket.socket:
        """Listen on the preferred port or, if it is taken, on a port near it.

        A web server inherits the socket and the supervisor keeps it open. So no other process gets
        the port between two starts of the web server, and a connection to the port never reaches
        another program.
        """
        listener = self._first_free(self.preferred(name))
        port = listener.getsockname()[1]
        write_json(self._file, {**read_json(self._file), name: port})
        return listener

    def _first_free(self, preferred: int) -> socket.socket:
        near = range(preferred, preferred + self._NEAR, self._STEP)
        for port in near:
            with suppress(OSError):
                return socket.create_server((LOOPBACK, port))
        raise StackError(
            f"the ports {near[0]}, {near[1]} … {near[-1]} are in use: set MITOSIS_PORT to another"
        )
