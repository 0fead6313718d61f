"""A project of its own in containers, made by one of the compose files."""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg2

from tests.support.composed import DOCKER, OURS, services
from tests.support.waiting import eventually

PROJECT: Final = "mitosis-containers"  # the volumes of the project `mitosis` stay as they are
PORTS: Final = {
    "PORT": "18100",
    "ACCOUNTS_PORT": "18101",
    "ORDERS_PORT": "18102",
    "POSTGRES_PORT": "18103",
}
FRONT: Final = f"http://127.0.0.1:{PORTS['PORT']}"
PUBLISHED: Final = Path(__file__).parent / "published.yml"
START_SECONDS: Final = 420.0  # with the build's cache empty, most of it is the build
COMMAND_SECONDS: Final = 900.0
PROBE_SECONDS: Final = 60.0  # on a busy machine, compose itself is slow


class Failed(Exception):
    """A command has failed."""

    def __init__(self, problem: str, printed: str = "") -> None:
        super().__init__(problem)
        self.printed = printed


class Containers:
    """Runs commands of compose, `docker compose` by default, for one compose file."""

    def __init__(self, file: str, *, log: Path) -> None:
        self.file = file
        self.services = services(file)
        self.log = log
        self.environment = {
            **os.environ,
            **PORTS,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "MITOSIS_VERSION": "containers",
        }

    @property
    def processes(self) -> list[str]:
        """The services of the application that stay running."""
        return [
            name
            for name, service in self.services.items()
            if service["image"] == OURS and service["restart"] != "no"
        ]

    @property
    def servers(self) -> list[str]:
        return [name for name, service in self.services.items() if service["image"] != OURS]

    def run(self, *arguments: str, within_seconds: float = COMMAND_SECONDS) -> str:
        """Run compose to its end. Raises Failed."""
        compose = shlex.split(os.environ.get("COMPOSE", "docker compose"))
        files = ("-f", str(DOCKER / self.file), "-f", str(PUBLISHED))
        return self.command([*compose, *files, *arguments], within_seconds=within_seconds)

    def roll(self) -> None:
        """Replace all processes with docker/rolling.sh."""
        self.command([str(DOCKER / "rolling.sh"), self.file], within_seconds=1800.0)

    def command(self, command: Sequence[str], *, within_seconds: float) -> str:
        with self.log.open("a") as log:
            log.write(f"$ {shlex.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            try:
                printed, _ = process.communicate(timeout=within_seconds)
            except subprocess.TimeoutExpired as exc:
                raise Failed(f"{shlex.join(command)}: not within {within_seconds:g} s") from exc
            finally:
                if process.poll() is None:  # with everything that it has started
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            log.write(printed)
        if process.returncode:
            status = f"status {process.returncode}; see {self.log}"
            raise Failed(f"{shlex.join(command)}: {status}", printed)
        return printed

    def is_healthy(self, name: str) -> bool:
        """Whether the health check of this service passes."""
        try:
            self._check_health(name)
        except Failed:
            return False
        return True

    def hangs(self, name: str) -> bool:
        """Whether the health check of this service finds a loop that makes no step."""
        try:
            self._check_health(name)
        except Failed as exc:
            return "no step of" in exc.printed
        return False

    def _check_health(self, name: str) -> None:
        """Raises Failed. It runs here, because some engines run health checks only with systemd."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        check = ["sh", "-c", test[0].replace("$$", "$")] if kind == "CMD-SHELL" else test
        self.run("exec", "-T", name, *check, within_seconds=PROBE_SECONDS)

    def wait_until_healthy(self, *names: str) -> None:
        """Raises AssertionError with the name of a service that isn't healthy in time."""
        for name in names:
            eventually(
                lambda name=name: self.is_healthy(name),
                within_seconds=START_SECONDS,
                what=f"{name} is healthy; see {self.log}",
            )

    @contextmanager
    def database(self, service: str) -> Iterator[Callable[..., Any]]:
        """Yield a function that runs a statement as the service's runtime role."""
        url = (DOCKER / "secrets" / f"{service}-database-url").read_text().strip()
        there = url.replace("@postgres:5432/", f"@127.0.0.1:{PORTS['POSTGRES_PORT']}/")
        with closing(psycopg2.connect(there, connect_timeout=10)) as connection:
            connection.autocommit = True

            def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
                with connection.cursor() as cursor:
                    cursor.execute(statement, values or None)
                    return cursor.fetchall() if cursor.description else []

            yield ask

    def stop_in_order(self) -> None:
        """The order of docker/README.md: first what takes requests, then what sends and applies
        events, and the servers at the end."""
        programs: Mapping[str, list[str]] = {
            program: [name for name in self.processes if program in name]
            for program in ("web", "beat", "worker", "consumer")
        }
        self.run("stop", *programs["web"], *programs["beat"])
        self.run("stop", *programs["worker"])
        self.run("stop", *programs["consumer"])
        self.run("stop", "front", *(name for name in self.servers if name != "front"))
