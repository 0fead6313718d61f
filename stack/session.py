"""One run of the stack, from `up` to its end."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg2

from placement.provision import provision

from . import applications, environment
from .credentials import ADMIN_EMAIL, Credentials
from .environment import Stack
from .errors import StackError
from .files import write_json
from .ports import KeptPorts
from .processes import Recorded
from .report import welcome
from .runfile import ProcessState, Run, end_leftovers, write_run
from .servers import Servers
from .shapes import SERVICES, SHAPES, Deployment
from .supervisor import Supervisor
from .terminal import Output
from .watch import ServerWatch

READY_SECONDS: Final = 90.0  # a cold start on a busy machine with two cores takes a third


class Session:
    """Holds the lock of the root while it runs. `run` must be called in the main thread."""

    def __init__(self, *, root: Path, shape: str, output: Output, detached: bool) -> None:
        self.root = root
        self.shape = shape
        self.deployments = SHAPES[shape]
        self.output = output
        self.detached = detached
        self.servers = Servers(root)
        self.credentials = Credentials.of(root)
        self.supervisor = Supervisor(output=output, servers=ServerWatch([], output=output))
        self._began = time.monotonic()
        self._state = "starting"
        self._ourselves = Recorded.of(os.getpid())

    def take_lock(self) -> None:
        """Raises StackInUse."""
        self.servers.lock.take()

    def run(self) -> None:
        """Return when asked to stop, with nothing left running. Raises StackError."""
        self.supervisor.listen_to_signals(hangup=not self.detached)
        self.supervisor.changed = self._write_down
        end_leftovers(self.root)
        self._write_down()
        try:
            while self._live():
                self.output.warn(f"{self.supervisor.servers.moved} moved: starting all anew")
                self._end()
        finally:
            self._state = "stopping"
            self.output.note("stopping")
            self._end()
            self._state = "stopped"
            self._write_down()
            self.servers.lock.release()
            self.output.note("stopped; nothing is left running")

    def _live(self) -> bool:
        """Run until asked to stop; True if all must be started anew, at other addresses."""
        stack = self._start_servers()
        if self._prepare(stack):
            self._start_processes(stack)
        ready = False
        while not self.supervisor.stop_requests:
            self.supervisor.tick()
            if self.supervisor.servers.moved:
                return True
            if not ready:
                ready = self._look_for_readiness(stack)
        return False

    def _start_servers(self) -> Stack:
        addresses = self.servers.start()
        self.supervisor.servers = ServerWatch(self.servers.all(), output=self.output)
        self._write_down()
        self._progress("servers")
        return Stack(
            root=self.root,
            addresses=addresses,
            credentials=self.credentials,
            web_ports=self._web_ports(),
        )

    def _web_ports(self) -> dict[str, int]:
        kept = KeptPorts(self.root / "ports.json")
        return {deployment.web: kept.claim(deployment.web) for deployment in self.deployments}

    def _prepare(self, stack: Stack) -> bool:
        """Roles, schemas, migrations, the first people; False if asked to stop meanwhile."""
        try:
            provision(
                stack.addresses.admin_dsn,
                database=environment.DATABASE,
                services={name: self.credentials.role_password(name) for name in SERVICES},
            )
        except psycopg2.Error as error:
            raise StackError(f"cannot make the database: {error}".strip()) from error
        self.supervisor.run_once(
            applications.preparation_of(
                deployment,
                email=ADMIN_EMAIL,
                password_file=str(self.credentials.admin_password_file),
                variables=self._variables(stack, deployment),
            )
            for deployment in self.deployments
        )
        self._progress("database")
        return not self.supervisor.stop_requests

    def _start_processes(self, stack: Stack) -> None:
        self.supervisor.start(
            [
                spec
                for deployment in self.deployments
                for spec in applications.processes_of(
                    deployment,
                    url=stack.url(deployment),
                    variables=self._variables(stack, deployment),
                )
            ]
        )

    def _variables(self, stack: Stack, deployment: Deployment) -> dict[str, str]:
        """Also kept in a file, for a `manage.py` that is started by hand with DEBUG on."""
        variables = stack.variables(deployment, self.deployments)
        write_json(self.root / "env" / f"{deployment.service}.json", variables)
        return variables

    def _look_for_readiness(self, stack: Stack) -> bool:
        if not self.supervisor.all_ready:
            self._give_up_if_hopeless()
            return False
        self._state = "ready"
        self._write_down()
        self._progress("processes")
        self.output.show(welcome(stack, self.deployments, self.output.file))
        if self.detached:
            self.output.leave_terminal()
        else:
            self.output.show("Ctrl-C stops everything.\n")
        return True

    def _give_up_if_hopeless(self) -> None:
        """Whoever waits for a detached start wants an answer; a terminal shows the log anyway."""
        failing = self.supervisor.failing()
        if self.detached and failing is not None:
            raise StackError(f"{failing.spec.name} keeps failing: {failing.last_words}")
        if self.detached and time.monotonic() - self._began > READY_SECONDS:
            waiting = [one.spec.name for one in self.supervisor.supervised if one.pid]
            raise StackError(f"not ready after {READY_SECONDS:.0f} s: {', '.join(waiting)}")

    def _end(self) -> None:
        with suppress(StackError):
            self.supervisor.stop()
        self.supervisor.servers.finish()
        self.servers.stop(release=False)

    def _progress(self, what: str) -> None:
        self.output.note(f"{what} ready after {time.monotonic() - self._began:.1f} s")

    def _write_down(self) -> None:
        run = Run(
            shape=self.shape,
            state=self._state,
            supervisor=self._ourselves,
            processes=(
                *(ProcessState.of(*state) for state in self.supervisor.states()),
                *(
                    ProcessState.of(*state, kind="server")
                    for state in self.supervisor.servers.states()
                ),
            ),
        )
        write_run(self.root, run)
