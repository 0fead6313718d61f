"""Counts the work of one database server: processor time and statements."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

STATEMENTS = """
SELECT coalesce(sum(calls), 0)::bigint
FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
WHERE rolname = ANY(%s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a server since its start. `cpu_seconds` is None on a system without /proc."""

    cpu_seconds: float | None
    statements: int

    def per_request_since(self, before: "Work", requests: int) -> dict[str, float | None]:
        """The work for each of the requests that were served since `before`."""
        number = max(requests, 1)
        cpu = None
        if self.cpu_seconds is not None and before.cpu_seconds is not None:
            cpu = round((self.cpu_seconds - before.cpu_seconds) * 1000 / number, 3)
        return {
            "statements": round((self.statements - before.statements) / number, 2),
            "cpu_ms": cpu,
        }


def work_of(postmaster: int | None, count_statements: Callable[[], int]) -> Work:
    return Work(cpu_seconds=cpu_seconds(postmaster), statements=count_statements())


def cpu_seconds(postmaster: int | None, *, proc: Path = Path("/proc")) -> float | None:
    """The processor time of a PostgreSQL server: of the postmaster, its processes, and its
    processes that have ended."""
    if postmaster is None or not (proc / "self" / "stat").exists():
        return None
    found = 0
    for entry in proc.iterdir():
        if entry.name.isdigit() and (fields := _fields(entry)):
            pid, parent = int(entry.name), int(fields[1])
            if postmaster in (pid, parent):
                found += sum(map(int, fields[11:13]))  # utime, stime
            if pid == postmaster:
                found += sum(map(int, fields[13:15]))  # cutime, cstime: ended processes
    return found / TICKS_PER_SECOND


def _fields(entry: Path) -> list[str] | None:
    """The fields of proc_pid_stat(5) from `state` on; None if the process has ended."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
