"""Runs the application under gunicorn with the settings of production, in one process."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from stack.ports import LOOPBACK
from tests.support.stacks import is_live
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

START_SECONDS = 90.0  # on a busy machine


@contextmanager
def web_server(
    environment: Mapping[str, str],
    *options: str,
    config: str = "config.gunicorn",
    output: IO[bytes] | None = None,
) -> Iterator[str]:
    """Yields the URL when the server answers. The server inherits the socket, so no other process
    can take its port."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        command = (
            *("-m", "gunicorn", "config.wsgi:application", "--bind", f"fd://{number}"),
            *("--config", f"python:{config}", "--no-control-socket", *options),
        )
        server = subprocess.Popen(
            [sys.executable, *command],
            cwd=CHECKOUT,
            env=dict(environment),
            stdout=output,
            stderr=output,
            pass_fds=[number],
        )
    url = f"http://{LOOPBACK}:{port}"
    try:
        eventually(lambda: is_live(url), within_seconds=START_SECONDS, what=f"{url} answers")
        yield url
    finally:
        server.terminate()
        server.wait(20)
