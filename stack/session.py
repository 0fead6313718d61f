"""One run of the stack, from its start to its stop."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg2

from placement.provision import Passwords, provision

from . import applications, environment, moving
from .child import ProcessSpec
from .credentials import ADMIN_EMAIL, Credentials
from .environment import Stack
from .errors import StackError
from .files import write_json
from .moving import Move
from .processes import Recorded
from .report import welcome
from .runfile import Run, end_leftovers, write_run
from .servers import Servers
from .shapes import LAB, ON_OWN_SERVER, SERVICES, SHAPES, Deployment
from .supervisor import Supervisor
from .terminal import Output
from .watch import ServerWatch

READY_SECONDS: Final = 90.0  # three times as long as a cold start on a busy machine with two cores


class Session:
    """Runs the stack and holds the lock of its root. Call `run` in the main thread."""

    def __init__(self, *, root: Path, shape: str, output: Output, detached: bool) -> None:
        self.root = root
        self.shape = shape
        self.deployments = SHAPES[shape]
        self.own = ON_OWN_SERVER[shape]
        self.output = output
        self.detached = detached
        self.servers = Servers(root)
        self.credentials = Credentials.of(root)
        self.supervisor = Supervisor(output=output, servers=ServerWatch([], output=output))
        self._started_at = time.monotonic()
        self._ready_by = self._started_at + READY_SECONDS
        self._state = "starting"
        self._installation = environment.installation()
        self._listeners: dict[str, socket.socket] = {}  # by name of the web process
        self._process = Recorded.of(os.getpid())

    def acquire_lock(self) -> None:
        """Take the lock of the root. Raises StackInUse."""
        self.servers.lock.acquire()

    def run(self) -> None:
        """Run the stack until a signal arrives, then end all processes. Raises StackError."""
        self.supervisor.handle_signals(hangup=not self.detached)
        self.supervisor.changed = self._record
        end_leftovers(self.root)
        self._record()
        try:
            while self._run_until_moved():
                moved = self.supervisor.servers.moved
                self.output.warn(f"{moved} has a new port: restarting everything")
                self._state, self._started_at = "starting", time.monotonic()
                self._end()
        finally:
            self._state = "stopping"
            self.output.note("stopping")
            for listener in self._listeners.values():
                listener.close()
            self._end()
            self._state = "stopped"
            self._record()
            self.servers.lock.release()
            self.output.note("stopped; nothing is left running")

    def _run_until_moved(self) -> bool:
        """Run until a signal arrives (return False) or a server has a new port (return True)."""
        stack = self._start_servers()
        if self._prepare(stack):
            self._start_processes(stack)
        ready = False
        while not self.supervisor.stop_requests:
            self.supervisor.tick()
            if self.supervisor.servers.moved:
                return True
            ready = ready or self._check_readiness(stack)
        return False

    def _start_servers(self) -> Stack:
        """Start the servers that have data and those that get data."""
        had = moving.on_own_server(self.root)
        moving.record(self.root, had)  # it exists before the first start of an own server
        own = {*had, *self.own}
        addresses = self.servers.start(own=sorted(own))
        self._watch_servers()
        self._progress("servers")
        # The processes use the addresses after the moves.
        ports = {name: addresses.own_ports[name] for name in self.own}
        return Stack(
            root=self.root,
            addresses=replace(addresses, own_ports=ports),
            credentials=self.credentials,
            web_ports={one.web: self._listen(one.web) for one in self.deployments},
        )

    def _watch_servers(self) -> None:
        self.supervisor.servers = ServerWatch(self.servers.all(), output=self.output)
        self._record()

    def _listen(self, name: str) -> int:
        """Listen for this web server, once in this run, and return the port."""
        ports = environment.web_ports(self.root)
        if name not in self._listeners:
            self._listeners[name] = ports.listen(name)
        port: int = self._listeners[name].getsockname()[1]
        if port != (taken := ports.preferred(name)):
            self.output.warn(f"{name} uses port {port}: another program uses port {taken}")
        return port

    def _prepare(self, stack: Stack) -> bool:
        """Create roles, schemas, tables, staff accounts. Return False if a stop was requested."""
        try:
            self._provision(*SERVICES, *LAB)
            moves = self._copy_schemas()
            self._provision(*(move.service for move in moves))  # of an earlier release
        except psycopg2.Error as error:
            raise StackError(f"cannot create the database: {error}".strip()) from error
        self.supervisor.run_once(
            applications.preparation_of(
                deployment,
                email=ADMIN_EMAIL,
                password_file=str(self.credentials.admin_password_file),
                variables={
                    **self._variables(stack, deployment),
                    **stack.owner_variables(deployment),
                },
            )
            for deployment in self.deployments
        )
        self._finish_moves(moves, stack)
        self._progress("database")
        return not self.supervisor.stop_requests

    def _provision(self, *names: str) -> None:
        passwords: dict[str, dict[str, Passwords]] = {}  # by address of the server and service
        for name in names:
            server = self.servers.of(name, own=name in self.own).dsn
            passwords.setdefault(server, {})[name] = self.credentials.passwords(name)
        for server, services in passwords.items():
            provision(server, database=environment.DATABASE, services=services)

    def _copy_schemas(self) -> list[Move]:
        """Copy the schemas that aren't on the server that this shape needs. Returns the moves."""
        moves, had = [], moving.on_own_server(self.root)
        for name in {*had, *self.own}:
            was, is_own = name in had, name in self.own
            source, target = (self.servers.of(name, own=own) for own in (was, is_own))
            move = Move(service=name, source=source, target=target)
            if was != is_own and move.has_data:
                started_at = time.monotonic()
                size = move.copy(self.root)
                seconds = time.monotonic() - started_at
                self.output.note(f"moved {move}: {size / 1000:.0f} kB in {seconds:.1f} s")
                moves.append(move)
        return moves

    def _finish_moves(self, moves: Sequence[Move], stack: Stack) -> None:
        """Restamp the copies, record them as the data in use, and delete what they replace."""
        self.supervisor.run_once(
            applications.restamp_of(
                deployment,
                label=move.service,
                variables={
                    **self._variables(stack, deployment),
                    **stack.owner_variables(deployment),
                },
            )
            for move in moves
            for deployment in self.deployments
            if move.service in deployment.services
        )
        if self.supervisor.stop_requests:
            return
        moving.record(self.root, self.own)
        for move in moves:
            move.finish()
        if unused := self.servers.own.keys() - {*self.own}:
            for name in unused:
                self.servers.retire(name)
            self._watch_servers()

    def _start_processes(self, stack: Stack) -> None:
        self._ready_by = time.monotonic() + READY_SECONDS  # after a move, which can take long
        self.supervisor.start(
            [
                spec
                for deployment in self.deployments
                for spec in self.processes_of(deployment, stack)
            ]
        )

    def processes_of(self, deployment: Deployment, stack: Stack) -> list[ProcessSpec]:
        return applications.processes_of(
            deployment,
            listener=self._listeners[deployment.web],
            variables=self._variables(stack, deployment),
        )

    def _variables(self, stack: Stack, deployment: Deployment) -> dict[str, str]:
        """Return the deployment's variables. Write them to the file that `config.environ` reads."""
        variables = stack.variables(deployment, self.deployments)
        write_json(self.root / "env" / f"{deployment.service}.json", variables)
        return variables

    def _check_readiness(self, stack: Stack) -> bool:
        if not self.supervisor.all_ready:
            if self.detached:
                self._fail_if_stuck()
            return False
        self._state = "ready"
        self._record()
        self._progress("processes")
        if self._installation:
            downloads = self._installation.download_seconds
            seconds = time.monotonic() - self._installation.started_at - downloads
            self.output.note(f"serving after {seconds:.1f} s, plus {downloads:.1f} s of downloads")
            self._installation = None
        self.output.show(welcome(stack, self.deployments, self.output.file))
        if self.detached:
            self.output.leave_terminal()
        else:
            self.output.show("Ctrl-C stops everything.\n")
        return True

    def _fail_if_stuck(self) -> None:
        """End a detached start that fails repeatedly or takes too long. Raises StackError."""
        failing = self.supervisor.failing()
        if failing is not None:
            raise StackError(f"{failing.spec.name} keeps failing: {failing.last_line}")
        if time.monotonic() > self._ready_by:
            waiting = [one.spec.name for one in self.supervisor.supervised if one.pid]
            raise StackError(f"not ready after {READY_SECONDS:.0f} s: {', '.join(waiting)}")

    def _end(self) -> None:
        self.supervisor.servers.is_stopping = True
        with suppress(StackError):
            self.supervisor.stop()
        self.supervisor.servers.finish()
        self.servers.stop(release=False)

    def _progress(self, step: str) -> None:
        self.output.note(f"{step} ready after {time.monotonic() - self._started_at:.1f} s")

    def _record(self) -> None:
        states = [*self.supervisor.states(), *self.supervisor.servers.states()]
        if self._state in {"ready", "degraded"}:
            all_run = all(one.state == "running" for one in states)
            self._state = "ready" if all_run else "degraded"
        run = Run(
            shape=self.shape,
            state=self._state,
            supervisor=self._process,
            processes=tuple(one.identified() for one in states),
        )
        write_run(self.root, run)
