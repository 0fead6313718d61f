"""Starts the private servers of a run, and processes that use these servers.

A run doesn't change the developer's stack: it has its own data root, erased before and after.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg2
import redis

from placement.provision import dsn_for, provision
from stack import commands
from stack.applications import processes_of
from stack.credentials import ADMIN_EMAIL, Credentials
from stack.environment import CHECKOUT, DATABASE, PYTHON, Stack, for_process
from stack.ports import LOOPBACK, WebPorts
from stack.postgres import HOST
from stack.servers import Servers
from stack.shapes import LAB, SERVICES, SHAPES, Deployment
from tests.support.waiting import eventually

PROJECT_DATABASE = "bench"
PROJECT = "tests.benchmarks.project"
SHAPE = SHAPES["services"]
STOP_SECONDS = 15.0
READY_SECONDS = 120.0
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class Ground:
    """Private servers with two databases: one for the application, and one for the small project in
    which the run measures relay and consumers alone."""

    has_lab: ClassVar[bool] = False  # the lab's relay and consumers would slow down the others

    def __init__(self, root: Path) -> None:
        self.root = root
        self.servers = Servers(root)
        self.redis: Any = None
        self.broker_url = ""
        self._processes: list[subprocess.Popen[Any]] = []
        self._listeners: dict[str, socket.socket] = {}
        self._made: set[str] = set()

    def start(self) -> None:
        commands.clean(self.root)
        self.servers.start(standby=False, ring=0)
        # The end-to-end part reads the server's commit times.
        self.restart_postgres(track_commit_timestamp="on")
        self.query(f"CREATE DATABASE {PROJECT_DATABASE}")
        self.redis = redis.Redis.from_url(self.servers.addresses.streams_url)
        self.broker_url = self.servers.addresses.streams_url.removesuffix("/0") + "/1"

    def restart_postgres(self, **settings: str | None) -> None:
        """Restarts PostgreSQL with these additional settings. A value of None resets a setting."""
        for name, value in settings.items():
            change = f"RESET {name}" if value is None else f"SET {name} = '{value}'"
            self.query(f"ALTER SYSTEM {change}")
        self.servers.postgres.stop()
        self.servers.postgres.start()

    def stop(self, *, keep_logs: bool) -> None:
        """Stops all processes and servers, and deletes the data root unless `keep_logs`."""
        self.end_processes()
        for listener in self._listeners.values():
            listener.close()
        if self.redis is not None:
            self.redis.close()
        self.servers.stop()
        if not keep_logs:
            commands.clean(self.root)

    # -- databases -----------------------------------------------------------------------

    @property
    def project_dsn(self) -> str:
        return dsn_for(self.servers.postgres.dsn, database=PROJECT_DATABASE)

    @property
    def application_dsn(self) -> str:
        """Returns the superuser's DSN for the application's database."""
        return dsn_for(self.servers.postgres.dsn, database=DATABASE)

    def by_tcp(self, dsn: str) -> str:
        """Returns the DSN over TCP: psycopg 3 reads an abstract socket as a host name."""
        return dsn.replace(quote(HOST), LOOPBACK)

    @property
    def stack(self) -> Stack:
        ports = WebPorts(self.root / "ports.json")
        return Stack(
            root=self.root,
            addresses=self.servers.addresses,
            credentials=Credentials.of(self.root),
            web_ports={deployment.web: ports.known(deployment.web) for deployment in SHAPE},
        )

    def need_project(self) -> dict[str, str]:
        """Creates the small project's tables once. Returns the environment of its processes."""
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "DJANGO_SETTINGS_MODULE": f"{PROJECT}.settings",
            "PYTHONPATH": _python_path(),
            "PYTHONUNBUFFERED": "1",
            "BENCH_DATABASE_URL": self.project_dsn,
            "BENCH_STREAMS_URL": self.servers.addresses.streams_url,
            "BENCH_BROKER_URL": self.broker_url,
        }
        if "project" not in self._made:
            self._made.add("project")
            self.run("migrate", environment, "-m", "django", "migrate", "--run-syncdb")
        return environment

    def need_application(self) -> dict[str, dict[str, str]]:
        """Creates the services' schemas once. Returns the variables of each deployment."""
        if "application" not in self._made:
            ports = WebPorts(self.root / "ports.json")
            self._listeners = {one.web: ports.listen(one.web) for one in SHAPE}
        variables = {d.service: self.variables(d) for d in SHAPE}
        if "application" not in self._made:
            self._made.add("application")
            self._prepare(self.stack, variables)
        return {
            service: {**for_process(given, kind="bench"), "PYTHONPATH": _python_path()}
            for service, given in variables.items()
        }

    def variables(self, deployment: Deployment) -> dict[str, str]:
        """The project's variables for a process of this deployment."""
        lab = "on" if self.has_lab else "off"
        return {**self.stack.variables(deployment, SHAPE), "LAB": lab}

    def _prepare(self, stack: Stack, variables: Mapping[str, Mapping[str, str]]) -> None:
        schemas = (*SERVICES, *LAB) if self.has_lab else SERVICES
        provision(
            stack.addresses.admin_dsn,
            database=DATABASE,
            services={name: stack.credentials.passwords(name) for name in schemas},
        )
        password = str(stack.credentials.admin_password_file)
        owners = {one.service: stack.owner_variables(one) for one in SHAPE}
        preparing = [
            self.spawn(
                f"prepare-{service}",
                for_process({**given, **owners[service]}, kind="prepare"),
                *("-m", "config.prepare", ADMIN_EMAIL, password),
            )
            for service, given in variables.items()
        ]
        for process in preparing:
            self._finish(process)

    def query(self, statement: str, *values: Any, dsn: str = "") -> list[tuple[Any, ...]]:
        """Runs one statement as superuser in autocommit mode. Returns the rows."""
        with self.session(dsn or self.servers.postgres.dsn) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []

    @contextmanager
    def session(self, dsn: str) -> Iterator[Any]:
        with closing(psycopg2.connect(dsn)) as connection:
            yield connection

    def calm(self) -> None:
        """Writes dirty pages and rewrites the append-only file. Earlier work then has no effect."""
        self.query("CHECKPOINT")
        self._wait_rewritten()  # the server may already be rewriting the file
        self.redis.bgrewriteaof()
        self._wait_rewritten()

    def _wait_rewritten(self) -> None:
        eventually(self._is_rewritten, within_seconds=60, what="append-only file rewritten")

    def _is_rewritten(self) -> bool:
        info: Any = self.redis.info("persistence")
        return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    # -- processes -----------------------------------------------------------------------

    def spawn(
        self,
        name: str,
        environment: Mapping[str, str],
        *arguments: str,
        piped: bool = False,
        inherits: tuple[int, ...] = (),
    ) -> subprocess.Popen[Any]:
        """Starts Python with these arguments and a log file. Python ends when this process ends."""
        folder = self.root / "log"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [PYTHON, "-W", "ignore", *arguments],
                cwd=CHECKOUT,
                env=dict(environment),
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                text=piped,
                pass_fds=inherits,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends its children
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call
            )
        self._processes.append(process)
        return process

    def run(self, name: str, environment: Mapping[str, str], *arguments: str) -> None:
        """Starts a process and waits for its end. Raises RuntimeError if the process fails."""
        self._finish(self.spawn(name, environment, *arguments))

    def ask(self, module: str, environment: Mapping[str, str], **question: Any) -> Any:
        """Runs a module of this package in a separate process. Question and answer are JSON."""
        process = self.spawn(
            module, environment, "-m", f"{__package__}.{module}", json.dumps(question), piped=True
        )
        text, _ = process.communicate()
        self._finish(process)
        return json.loads(text)

    def spawn_application(self) -> dict[str, subprocess.Popen[Any]]:
        """Starts every process of both deployments, as `./dev up --services` does. Returns them by
        name."""
        started = {}
        for deployment in SHAPE:
            for spec in processes_of(
                deployment,
                listener=self._listeners[deployment.web],
                variables=self.variables(deployment),
            ):
                arguments = spec.command[1:]
                started[spec.name] = self.spawn(
                    spec.name, spec.environment, *arguments, inherits=spec.inherits
                )
        return started

    def spawn_web(self, deployment: Deployment) -> subprocess.Popen[Any]:
        """Starts the web server of this deployment. Its port refuses connections after its end."""
        with self._listeners.pop(deployment.web) as listener:
            web, *_ = processes_of(
                deployment, listener=listener, variables=self.variables(deployment)
            )
            arguments = web.command[1:]
            return self.spawn(web.name, web.environment, *arguments, inherits=web.inherits)

    def wait_ready(self, deployment: Deployment) -> None:
        """Waits until the deployment's web server answers that it is ready."""
        url = f"{self.stack.url(deployment)}/healthz/ready"
        eventually(lambda: _answers(url), within_seconds=READY_SECONDS, what=f"{url} answers")

    def end(self, *processes: subprocess.Popen[Any]) -> None:
        """Terminates the processes, and kills each process that doesn't end in time."""
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process in self._processes:
                self._processes.remove(process)

    def end_processes(self) -> None:
        self.end(*self._processes)

    def _finish(self, process: subprocess.Popen[Any]) -> None:
        status = process.wait()
        self._processes.remove(process)
        if status:
            raise RuntimeError(f"{process.args} failed; see the process's log")


def _python_path() -> str:
    """The checkout and, with `--psycopg3`, the folder of the driver."""
    return os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)
    except OSError:
        return False
