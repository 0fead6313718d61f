"""The verbs of `./dev` for a data root, the folder of one stack: up, down, manage, clean."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import psycopg2

from placement.provision import dsn_for, owner_of, provision

from .binaries import Binaries
from .environment import CHECKOUT, PYTHON, for_command, inherited, requested_service
from .errors import StackError, StackInUse
from .lock import RootLock, is_flocked
from .owner import home_of, server_user
from .processes import send, wait_gone
from .report import known_stack, log_file, running, status_text
from .runfile import end_leftovers, end_recorded, leftovers, read_run
from .servers import Servers
from .session import READY_SECONDS, Session
from .shapes import FLAGS, MONOLITH, SHAPES, deployment_of
from .terminal import Output, show

LOCAL: Final = CHECKOUT / ".local"  # data of the stack, of tests and of benchmarks
# The example project of docs/journey.md: its database, the role of stage 0, the roles of stage 1.
JOURNEY: Final = "journey"
JOURNEY_SERVICES: Final = ("customers", "shop")
DOWN_SECONDS: Final = 60.0  # enough for the processes' grace time and PostgreSQL's checkpoint
KILL_SECONDS: Final = 15.0  # a look at the lock takes 5 s if the holder is unknown
_POLL_SECONDS: Final = 0.05


def up(root: Path, *, shape: str, detached: bool = False) -> None:
    """Run the stack until a signal stops it. If the stack already runs, wait until it is ready."""
    output = Output(log_file(root), only_notes=detached)
    session = Session(root=root, shape=shape, output=output, detached=detached)
    try:
        session.acquire_lock()
    except StackInUse as error:
        wait_until_ready(root, shape=shape, holder=error)
        return
    session.run()


def up_detached(root: Path, *, shape: str) -> int:
    """Start `up` in the background. Return 0 when the stack is ready, else the exit status."""
    command = [PYTHON, "-m", "stack", "up", "--background", *FLAGS[shape]]
    supervisor = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=inherited(MITOSIS_STACK_ROOT=str(root)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The supervisor closes its output when everything is ready.
    for line in supervisor.stdout or ():
        show(line.rstrip("\n"))
    run = read_run(root)
    return 0 if run and run.is_up else supervisor.wait() or 1


def wait_until_ready(root: Path, *, shape: str, holder: StackInUse) -> None:
    """Wait until the stack of another process is ready, and print the stack's status.

    Raises StackError if that stack has another shape, ends, or isn't ready in time.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        run = read_run(root)
        if run is None or not run.is_alive:
            if RootLock(root).holder() is None:
                raise StackError("the stack ended before it was ready; ./dev up starts it again")
        elif run.shape != shape:
            raise StackError(f"the stack is up as {run.shape}: ./dev down ends it, then try again")
        elif run.state == "ready":
            show(status_text(root))
            return
        time.sleep(_POLL_SECONDS)
    raise StackError(
        f"{holder}, and the stack isn't ready after {READY_SECONDS:.0f} s; see ./dev status"
    )


def down(root: Path) -> str:
    """Stop the stack and all processes that a killed supervisor left; return a message."""
    if not root.exists():
        return "nothing is running"
    left = leftovers(root)
    servers = Servers(root)
    holder = servers.lock.holder()
    if holder is not None:
        _stop_holder(servers.lock, holder)
    servers.lock.acquire()
    was_up = holder is not None or bool(left)
    end_leftovers(root)
    servers.stop()
    return "stopped; nothing is left running" if was_up else "nothing is running"


def manage(root: Path, arguments: list[str]) -> NoReturn:
    """Replace this process by `manage.py`, with this stack's variables for SERVICE (or all)."""
    service = requested_service() or "all"
    try:
        deployment = deployment_of(service)
    except KeyError:
        raise StackError(f"SERVICE={service}: expected all, accounts or orders") from None
    run = read_run(root)
    shape = run.shape if run is not None and run.is_alive else None
    if shape is None:
        sys.stderr.write("note: the stack is down; ./dev up starts it\n")
    stack = known_stack(root)
    variables = stack.variables(deployment, SHAPES[shape or MONOLITH])
    _become_manage(root, arguments, {**variables, **stack.owner_variables(deployment)})


def journey(root: Path, arguments: list[str]) -> NoReturn:
    """Replace this process by `manage.py` of the example project, with a database of its own on the
    running stack's server."""
    running(root)
    stack = known_stack(root)
    admin_dsn, credentials = stack.addresses.admin_dsn, stack.credentials
    try:
        provision(admin_dsn, database=JOURNEY, services={JOURNEY: credentials.passwords(JOURNEY)})
    except psycopg2.Error as error:
        raise StackError(f"cannot create the database {JOURNEY}: {error}".strip()) from error
    addresses = {
        f"{role.upper()}_DATABASE_URL": dsn_for(
            admin_dsn, database=JOURNEY, role=role, password=credentials.role_password(role)
        )
        for service in (JOURNEY, *JOURNEY_SERVICES)
        for role in (service, owner_of(service))
    }
    addresses["PLACEMENT_ADMIN_DATABASE_URL"] = admin_dsn
    _become_manage(root, arguments, addresses, program="docs/journey/manage.py")


def production(root: Path, arguments: list[str]) -> NoReturn:
    """Replace this process by `manage.py` with the production settings, to check them."""
    (monolith,) = SHAPES[MONOLITH]
    variables = known_stack(root).variables(monolith, SHAPES[MONOLITH])
    relaxed = ("DEBUG", "HTTPS", "LAB", "LOG_FORMAT", "THROTTLE_")
    strict = {name: value for name, value in variables.items() if not name.startswith(relaxed)}
    _become_manage(root, arguments, {**strict, "ALLOWED_HOSTS": "shop.example.com"})


def clean_checkout(root: Path) -> None:
    """Run `clean`, and end the servers that crashed tests and benchmarks left below `.local`.

    Raises StackError while tests or a benchmark run, because they use these servers.
    """
    for file in LOCAL.glob("*/**/*lock"):
        if file.is_file() and not file.is_relative_to(root) and is_flocked(file):
            raise StackError(f"tests or a benchmark use {file.parent}: wait until they end")
    clean(root)
    end_recorded(LOCAL)


def clean(root: Path) -> None:
    """Stop the stack and delete the files that it made in `root`; keep all other files."""
    down(root)
    home = home_of(root)
    for state in home.glob("*/state.json"):
        shutil.rmtree(state.parent)
    for name in ("bin", "env", "log", "secrets"):
        shutil.rmtree(home / name, ignore_errors=True)
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("databases.json", "home-mark", "lock", "ports.json", "run.json"):
        (root / name).unlink(missing_ok=True)
    if home != root:
        shutil.rmtree(home, ignore_errors=True)


def _become_manage(
    root: Path, arguments: list[str], variables: dict[str, str], *, program: str = "manage.py"
) -> NoReturn:
    home = home_of(root)
    programs = Binaries.reachable(home=home, user=server_user(home)).postgres
    os.chdir(CHECKOUT)
    environment = for_command(variables, programs=programs)
    os.execve(PYTHON, [PYTHON, program, *arguments], environment)


def _stop_holder(lock: RootLock, holder: int) -> None:
    """Wait until the lock is free; end the process that holds it. `holder` is 0 if it is unknown.

    A process that takes the lock meanwhile isn't ended: it may be another `down`.
    """
    run = read_run(lock.root)
    if not holder and run and run.is_alive:
        holder = run.supervisor.pid  # until 0.2.0, the lock file had only a pid
    found: int | None = holder
    for number, seconds in ((signal.SIGTERM, DOWN_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        deadline, is_sent = time.monotonic() + seconds, False
        while time.monotonic() < deadline:
            found = lock.holder()
            if found is None:
                wait_gone([holder] if holder else [], timeout_seconds=5.0)
                return
            holder = holder or found  # the pid may have been unknown
            if holder and found in (0, holder) and not is_sent:
                send([holder], number)
                is_sent = True
            time.sleep(_POLL_SECONDS)
    name = f"process {found or holder}" if found or holder else "another process"
    raise StackError(f"{name} does not release the lock of {lock.root}")
