"""What is running, as the supervisor last wrote it down: `<root>/run.json`."""

import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
        return (
            Recorded(pid=self.pid, identity=self.identity) if self.pid and self.identity else None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of the stack. `state`: starting, ready, stopping, stopped."""

    shape: str
    state: str
    supervisor: Recorded
    processes: tuple[ProcessState, ...] = field(default=())

    @property
    def is_alive(self) -> bool:
        return self.state != "stopped" and self.supervisor.is_running


def write_run(root: Path, run: Run) -> None:
    write_json(_file(root), asdict(run))


def read_run(root: Path) -> Run | None:
    """The last run, alive or not; None before the first, or if the file can't be read as one."""
    found = read_json(_file(root))
    try:
        return Run(
            shape=found["shape"],
            state=found["state"],
            supervisor=Recorded(**found["supervisor"]),
            processes=tuple(_processes(found["processes"])),
        )
    except (KeyError, TypeError):
        return None


def end_leftovers(root: Path) -> None:
    """End the processes that a killed supervisor left behind. Hold the root's lock.

    They are told from strangers by more than their pids. Servers are not ended here: they are
    asked to stop in good order, by their own start or stop.
    """
    run = read_run(root)
    for process in run.processes if run else ():
        if process.kind == "application" and process.recorded:
            left = session_members(process.recorded)
            send(left, signal.SIGKILL)
            wait_gone(left, timeout_seconds=5.0)


def end_recorded(folder: Path) -> None:
    """End every server whose record lies below this folder."""
    states = [read_json(file) for file in folder.glob("**/state.json")]
    servers = [
        Recorded(pid=state["pid"], identity=state["identity"]) for state in states if "pid" in state
    ]
    left = [server.pid for server in servers if server.is_running]
    send(left, signal.SIGINT)  # a fast shutdown, for PostgreSQL and Valkey alike
    wait_gone(left, timeout_seconds=10.0)


def _processes(found: Iterable[dict[str, Any]]) -> Iterable[ProcessState]:
    return (ProcessState(**one) for one in found)


def _file(root: Path) -> Path:
    return root / "run.json"
