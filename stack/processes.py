"""Who is process N? A pid alone may belong to a stranger by now."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A process as it was written down: its pid, and what tells it from a later owner of it."""

    pid: int
    identity: str

    @classmethod
    def of(cls, pid: int) -> "Recorded":
        return cls(pid=pid, identity=identity(pid) or "")

    @property
    def is_running(self) -> bool:
        return bool(self.identity) and identity(self.pid) == self.identity


def identity(pid: int) -> str | None:
    """A text no other process ever shares with this one; None when it is gone (or a zombie)."""
    if not _has_proc():
        return _identity_from_ps(pid)
    fields = _stat(pid)
    return None if fields is None else f"{_boot()}:{fields[19]}"


def working_in(directory: Path, *, executable: str) -> list[int]:
    """The pids whose working directory is this one and whose program bears this name.

    Both must hold: somebody's shell may stand in the data directory. Empty without /proc.
    """
    if not _has_proc():
        return []
    wanted = os.path.realpath(directory)
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit()
        and _link(entry / "cwd") == wanted
        and os.path.basename(_link(entry / "exe").removesuffix(" (deleted)")) == executable
    ]


def session_members(leader: Recorded) -> list[int]:
    """Who is left of the session that this process once opened; never somebody else's session.

    The kernel gives no pid away that still names a session, so once the leader is gone, a session
    of that number is ours, unless the pid lives again. Without /proc: the leader alone.
    """
    if leader.is_running and not _has_proc():
        return [leader.pid]
    if identity(leader.pid) not in (leader.identity, None):
        return []
    if not leader.identity.startswith(f"{_boot()}:"):  # of an earlier boot, or never seen
        return []
    return [pid for pid in _all_pids() if _session_of(pid) == leader.pid]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each of them that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_gone(pids: Iterable[int], *, timeout_seconds: float) -> list[int]:
    """Wait until they are gone; return those that outlived the deadline."""
    deadline = time.monotonic() + timeout_seconds
    left = [pid for pid in pids if identity(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(0.005)
        left = [pid for pid in left if identity(pid)]
    return left


@cache
def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


@cache
def _boot() -> str:
    """Start times count from the boot, so the boot belongs to the identity."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _identity_from_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return None if len(answer) < 2 or answer[0].startswith("Z") else answer[1].strip()


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[3])


def _stat(pid: int) -> list[str] | None:
    """The fields from `state` on (proc_pid_stat(5)); None for a zombie or nobody."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name may contain anything, so count the fields after its closing bracket.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
