"""The state of a run, which the supervisor writes to `<root>/run.json`."""

import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from .files import read_json, write_json
from .processes import Recorded, send, session_members, wait_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    name: str
    pid: int | None
    state: str  # starting | running | restarting | stopped
    identity: str = ""
    kind: str = "application"  # application | server

    @classmethod
    def of(
        cls, name: str, pid: int | None, state: str, *, kind: str = "application"
    ) -> "ProcessState":
        identity = Recorded.of(pid).identity if pid else ""
        return cls(name=name, pid=pid, state=state, identity=identity, kind=kind)

    @property
    def recorded(self) -> Recorded | None:
        if self.pid and self.identity:
            return Recorded(pid=self.pid, identity=self.identity)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    shape: str
    state: str  # starting | ready | stopping | stopped
    supervisor: Recorded
    processes: tuple[ProcessState, ...] = ()

    @property
    def is_alive(self) -> bool:
        return self.state != "stopped" and self.supervisor.is_running


def write_run(root: Path, run: Run) -> None:
    write_json(_file(root), asdict(run))


def read_run(root: Path) -> Run | None:
    """The last run, even if it has ended; None before the first run or if the file is invalid."""
    found = read_json(_file(root))
    try:
        return Run(
            shape=found["shape"],
            state=found["state"],
            supervisor=Recorded(**found["supervisor"]),
            processes=tuple(ProcessState(**process) for process in found["processes"]),
        )
    except (KeyError, TypeError):
        return None


def end_leftovers(root: Path) -> None:
    """Kill the application processes that a killed supervisor left. The caller must hold the lock.

    This function compares identities, not only pids. It doesn't kill servers, because their methods
    `start` and `stop` shut them down cleanly.
    """
    run = read_run(root)
    for process in run.processes if run else ():
        if process.kind == "application" and process.recorded:
            left = session_members(process.recorded)
            send(left, signal.SIGKILL)
            wait_gone(left, timeout_seconds=5.0)


def end_recorded(folder: Path) -> None:
    """End every server whose state file is below this folder."""
    states = [read_json(file) for file in folder.glob("**/state.json")]
    servers = [
        Recorded(pid=state["pid"], identity=state["identity"]) for state in states if "pid" in state
    ]
    left = [server.pid for server in servers if server.is_running]
    send(left, signal.SIGINT)  # a fast shutdown in both PostgreSQL and Valkey
    wait_gone(left, timeout_seconds=10.0)


def _file(root: Path) -> Path:
    return root / "run.json"
