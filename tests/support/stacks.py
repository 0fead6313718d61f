"""A complete stack for one test, which uses the stack through `./dev` and HTTP.

Test runs of one checkout may overlap: each stack uses a free slot below `.local/test`, and first
ends the processes that a crashed run left there.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from stack import report
from stack.owner import home_of
from stack.processes import Recorded, session_members
from tests.support.surroundings import CHECKOUT, ROOT
from tests.support.waiting import eventually

SERVICES = ("accounts", "orders")
FIRST_PORT = 18_000  # the developer's own stack keeps port 8000
COMMAND_SECONDS = 120  # a cold start on a busy machine takes about 40 s


class Failed(AssertionError):
    """A command ended with an unexpected status."""


class RunningStack:
    """Runs `./dev` with its own data root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Without the variables of the tests, because a user's shell doesn't have them.
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "MITOSIS_STACK_ROOT": str(root),
            "MITOSIS_PORT": str(FIRST_PORT),
        }

    def __str__(self) -> str:
        return f"the stack whose log is {self.log}"

    @property
    def log(self) -> Path:
        return self.root / "log" / "dev.log"

    def dev(self, *arguments: str, service: str = "", fails: bool = False) -> str:
        """Run `./dev …` to its end and return its output. Raises Failed."""
        chosen = {"SERVICE": service} if service else {}
        done = subprocess.run(
            [sys.executable, str(CHECKOUT / "dev"), *arguments],
            cwd=CHECKOUT,
            env={**self.environment, **chosen},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if bool(done.returncode) is not fails:
            command = " ".join(arguments)
            raise Failed(f"./dev {command}: {done.returncode}\n{done.stdout}\nsee {self.log}")
        return done.stdout

    def manage(self, *arguments: str, service: str = "", fails: bool = False) -> str:
        return self.dev("manage", *arguments, service=service, fails=fails)

    def up(self, shape: str) -> None:
        self.dev("up", "--detach", *(["--services"] if shape == "services" else []))

    def down(self) -> None:
        self.dev("down")

    def erase(self, *, keep_log: bool = False) -> None:
        """End all processes of this root, also of an earlier run, and delete the data."""
        self.dev("down")
        home = home_of(self.root)
        for folder in (home, self.root):
            for found in folder.iterdir() if folder.exists() else ():
                if keep_log and found == self.log.parent:
                    continue
                shutil.rmtree(found) if found.is_dir() else found.unlink()
        if home != self.root and home.exists():
            home.rmdir()

    def status(self) -> dict[str, Any]:
        """Return the object of `./dev status --json` without starting a process."""
        return report.status(self.root)

    def pids(self) -> dict[str, int]:
        """The pid of every running process, by name."""
        return {
            process["name"]: process["pid"]
            for process in self.status()["processes"]
            if process["pid"]
        }

    def deployment(self, service: str) -> str:
        """The SERVICE of the deployment that this service is in; empty for the monolith."""
        return "" if self.status()["shape"] == "monolith" else service

    def flow(self) -> dict[str, Any]:
        """Return `services` of `manage.py status --json`, merged for all deployments."""
        deployments = {self.deployment(service) for service in SERVICES}
        found: dict[str, Any] = {}
        for service in deployments:
            found |= json.loads(self.manage("status", "--json", service=service))["services"]
        return found

    def parked(self) -> dict[str, int]:
        """The number of parked events by consumer; consumers without parked events are absent."""
        found: dict[str, int] = {}
        for service in SERVICES:
            with self.database(service) as ask:
                table = f"{service}_parkedevent"
                found |= ask(f"SELECT consumer, count(*) FROM {table} GROUP BY consumer")  # noqa: S608
        return found

    @contextmanager
    def database(
        self, service: str, *, replica: bool = False, owner: bool = False
    ) -> Iterator[Callable[..., Any]]:
        """Yield a function that runs a statement and returns the rows: as the service's runtime
        role, as its reader on the replica, or as the owner of its schema."""
        databases = self.status()["databases"][service]
        dsn = databases["replicas"][0] if replica else databases["primary"]
        if owner:
            dsn = report.known_stack(self.root).owner(service)
        with closing(psycopg2.connect(dsn)) as connection:
            connection.autocommit = True

            def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
                with connection.cursor() as cursor:
                    cursor.execute(statement, values or None)
                    return cursor.fetchall() if cursor.description else []

            yield ask


@contextmanager
def own_stack(shape: str = "") -> Iterator[RunningStack]:
    """A stack in its own data root, which is erased at the end. If a shape is given, it is up."""
    with _free_root() as root:
        stack = RunningStack(root)
        stack.erase()
        try:
            if shape:
                stack.up(shape)
            yield stack
        finally:
            stack.erase(keep_log=True)  # the log helps with failed tests


@contextmanager
def given_or_own_stack(shape: str, *, given: str | None) -> Iterator[RunningStack]:
    """The stack in the folder `given`, which is up; without it, a stack of its own. Skips the test
    if the given stack has another shape."""
    if not given:
        with own_stack(shape) as own:
            yield own
        return
    stack = RunningStack(Path(given))
    if stack.status()["shape"] != shape:
        pytest.skip("the given stack has another shape")
    yield stack


def is_live(url: str) -> bool:
    """Whether the web server at `url` responds."""
    try:
        return httpx.get(f"{url}/healthz/live").status_code == 200
    except httpx.TransportError:
        return False


def everybody(pids: Mapping[str, int]) -> list[Recorded]:
    """Return these processes and all processes of their sessions, with their identities."""
    leaders = [Recorded.of(pid) for pid in pids.values()]
    return [Recorded.of(pid) for leader in leaders for pid in session_members(leader)]


def wait_gone(processes: list[Recorded]) -> None:
    eventually(
        lambda: not [process for process in processes if process.is_running],
        within_seconds=60,
        what="all of the stack's processes end",
    )


@contextmanager
def _free_root() -> Iterator[Path]:
    for number in range(64):
        folder = ROOT / "stacks" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield folder
            return
    raise RuntimeError("all 64 slots are in use: end other test runs first")
