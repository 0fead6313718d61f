"""The example project of docs/using-placement.md: placement without the outbox, under another name.

It runs outside the checkout, so no package of the checkout can be imported.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from placement.replicas.tokens import COOKIE, HEADER
from stack.ports import LOOPBACK, free_port
from stack.servers import Valkey
from tests.integration.placement.replicated import Replicated
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

NAME = "whereabouts"  # of the copied folder
EXAMPLE = CHECKOUT / "tests" / "support" / "placed"
ROLE = "placed_shop"  # owns the database, and isn't a superuser
WITHIN_SECONDS = 30.0


def copy_to(folder: Path) -> None:
    """Copy placement and the example project, as a reader of the page does."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "placement", folder / NAME, ignore=unwanted)
    shutil.copytree(EXAMPLE, folder, ignore=unwanted, dirs_exist_ok=True)
    settings = folder / "settings.py"
    settings.write_text(re.sub(r'"placement\b', f'"{NAME}', settings.read_text()))


class Placed:
    """The copied project with its servers. `web` runs its web server."""

    def __init__(
        self, folder: Path, servers: Replicated, store: Valkey, nodes: list[Valkey]
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.nodes = nodes
        primary, standby = servers.primary, servers.standby
        self.environment = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": str(folder),
            "DB_NAME": ROLE,
            "DB_USER": ROLE,
            "DB_PASSWORD": ROLE,
            **_address("PRIMARY", primary.dsn, primary.port),
            **_address("REPLICA", standby.dsn, standby.port),
            "REPLICA_LAG_SECONDS": "60",  # a test pauses the replay
            "RING_NODES": ",".join(node.url for node in nodes),
            "RING_STORE": store.url,
        }

    def manage(self, *arguments: str, fails: bool = False, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "django", *arguments],
            env={**self.environment, **variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout
        return done.stdout

    def node(self, source: str) -> Valkey:
        """The node with this name in the header Served-By."""
        return self.nodes[int(source.removeprefix("ring-"))]

    @contextmanager
    def web(self) -> Iterator["Site"]:
        with (self.folder / "web.log").open("ab") as log:
            port = free_port()
            server = subprocess.Popen(
                [sys.executable, "-m", "django", "runserver", "--noreload", str(port)],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
            try:
                eventually(
                    lambda: _listens(port), within_seconds=WITHIN_SECONDS, what="the web server"
                )
                yield Site(f"http://{LOOPBACK}:{port}")
            finally:
                server.terminate()
                server.wait(20)


def _address(name: str, dsn: str, port: int) -> Mapping[str, str]:
    from psycopg2.extensions import parse_dsn

    return {f"{name}_HOST": parse_dsn(dsn)["host"], f"{name}_PORT": str(port)}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


class Site:
    """The site, for a client that keeps no cookies."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **form: str) -> httpx.Response:
        answer = httpx.post(self.url + path, data=form, timeout=20).raise_for_status()
        assert answer.cookies[COOKIE] == answer.headers[HEADER]
        return answer

    def get(self, path: str, *, token: str = "") -> tuple[Any, str]:
        """The answer, and the server that was read."""
        headers = {HEADER: token} if token else {}
        answer = httpx.get(self.url + path, headers=headers, timeout=20).raise_for_status()
        return answer.json(), answer.headers.get("Served-By", "")

    def wait_for(self, path: str, *, served_by: str) -> tuple[Any, str]:
        """Read until such a server answers; return what `get` returns."""

        def answer() -> Any:
            found = self.get(path)
            return found if found[1].startswith(served_by) else None

        found: tuple[Any, str] = eventually(
            answer, within_seconds=WITHIN_SECONDS, what=f"{path} is served by {served_by}"
        )
        return found
