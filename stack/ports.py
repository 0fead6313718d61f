"""Free TCP ports on the loopback address."""

import random
import socket
from pathlib import Path
from typing import Final

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


class KeptPorts:
    """The ports of the web servers, by process name. A file keeps them from run to run."""

    _FIRST_CHOICE: Final = {"web": 8000, "accounts-web": 8001, "orders-web": 8002}

    def __init__(self, file: Path) -> None:
        self._file = file

    def known(self, name: str) -> int:
        """The port of the last run; before the first run, the default port."""
        return int(read_json(self._file).get(name) or self._FIRST_CHOICE[name])

    def claim(self, name: str) -> int:
        """Return the last run's port if it is free, else another port; write it to the file."""
        port = free_port(preferred=self.known(name))
        write_json(self._file, {**read_json(self._file), name: port})
        return port
