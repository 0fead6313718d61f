"""Identifies processes, because the kernel may give the pid of an ended process to a new one."""

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
    """A pid, and an identity that a later process with the same pid doesn't have."""

    pid: int
    identity: str

    @classmethod
    def of(cls, pid: int) -> "Recorded":
        return cls(pid=pid, identity=identity(pid) or "")

    @property
    def is_running(self) -> bool:
        return bool(self.identity) and identity(self.pid) == self.identity


def identity(pid: int) -> str | None:
    """A string that no other process ever has; None if the process has ended or is a zombie."""
    if not _has_proc():
        return _identity_from_ps(pid)
    fields = _stat(pid)
    return None if fields is None else f"{_boot()}:{fields[19]}"


def working_in(directory: Path, *, executable: str) -> list[int]:
    """The pids of the processes that run this program in this directory; empty without /proc.

    The directory alone doesn't identify a server: a shell may work in the same directory.
    """
    if not _has_proc():
        return []
    wanted = os.path.realpath(directory)
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit()
        and _readlink(entry / "cwd") == wanted
        and os.path.basename(_readlink(entry / "exe").removesuffix(" (deleted)")) == executable
    ]


def session_members(leader: Recorded) -> list[int]:
    """The remaining processes of the session that `leader` opened, never those of another session.

    The kernel doesn't reuse a pid while a session has that id. So a session with the pid of an
    ended leader is the leader's, unless a new process has the pid. Without /proc: only the leader.
    """
    if leader.is_running and not _has_proc():
        return [leader.pid]
    if identity(leader.pid) not in (leader.identity, None):
        return []
    if not leader.identity.startswith(f"{_boot()}:"):  # from an earlier boot, or unknown
        return []
    return [pid for pid in _all_pids() if _session_of(pid) == leader.pid]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send the signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_gone(pids: Iterable[int], *, timeout_seconds: float) -> list[int]:
    """Wait until the processes end; return the pids that still run at the deadline."""
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
    """The boot id. An identity contains it, because start times count from the boot."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _identity_from_ps(pid: int) -> str | None:
    fields = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return None if len(fields) < 2 or fields[0].startswith("Z") else fields[1].strip()


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[3])


def _stat(pid: int) -> list[str] | None:
    """The fields of proc_pid_stat(5), from `state` on; None for an ended process or a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name may contain spaces and brackets, so split after the last bracket.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields


def _readlink(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
