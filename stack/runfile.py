"""The state of a run, which the supervisor writes to `<root>/run.json`."""

import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .files import read_json, write_json
from .owner import home_of
from .processes import Recorded, send, session_members, wait_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    name: str
    pid: int | None
    state: str  # starting | running | restarting | stopping | stopped
    failures: int = 0  # consecutive starts that failed or soon ended
    reason: str = ""  # of the last failure
    identity: str = ""
    kind: str = "application"  # application | server

    def __str__(self) -> str:
        if self.state != "restarting" or not self.failures:
            return self.state
        times = "once" if self.failures == 1 else f"{self.failures} times"
        return f"restarting ({times}): {self.reason}"

    def identified(self) -> "ProcessState":
        """This state with the identity of the process that has its pid now."""
        return replace(self, identity=Recorded.of(self.pid).identity) if self.pid else self

    @property
    def recorded(self) -> Recorded | None:
        if self.pid and self.identity:
            return Recorded(pid=self.pid, identity=self.identity)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    shape: str
    state: str  # starting | ready | degraded (was ready, but not all run) | stopping | stopped
    supervisor: Recorded
    processes: tuple[ProcessState, ...] = ()

    @property
    def is_alive(self) -> bool:
        return self.state != "stopped" and self.supervisor.is_running

    @property
    def is_up(self) -> bool:
        """Whether the run has been ready and isn't stopping."""
        return self.state in {"ready", "degraded"} and self.is_alive


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


def leftovers(root: Path) -> dict[str, int]:
    """The pids of the processes that still run although their supervisor was killed, by name."""
    run = read_run(root)
    if run is not None and run.is_alive:
        return {}
    recorded = {one.name: one.recorded for one in run.processes if one.recorded} if run else {}
    # The state files are newer than the run file if the supervisor was killed during a start.
    found = {**recorded, **dict(_servers_in(home_of(root)))}
    return {name: one.pid for name, one in found.items() if one.is_running}


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
    left = [server.pid for _, server in _servers_in(folder, "**") if server.is_running]
    send(left, signal.SIGINT)  # a fast shutdown in both PostgreSQL and Valkey
    wait_gone(left, timeout_seconds=10.0)


def _servers_in(folder: Path, pattern: str = "*") -> Iterator[tuple[str, Recorded]]:
    """Yield the name and the recorded process of each server whose state file is in the folder."""
    for file in folder.glob(f"{pattern}/state.json"):
        state = read_json(file)
        if "pid" in state:
            yield file.parent.name, Recorded(pid=state["pid"], identity=state["identity"])


def _file(root: Path) -> Path:
    return root / "run.json"
