"""Errors of the stack. Every message is one line, for a terminal."""

import errno
from pathlib import Path


class StackError(Exception):
    """A command of the stack failed. The message names the cause and what to do."""


class StackInUse(StackError):
    """Another running process holds the lock of this data root."""

    def __init__(self, root: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{holder} is running the stack in {root}")
        self.pid = pid


class ServerFailed(StackError):
    """A server ended during its start, or wasn't ready in time."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name} did not start: {reason} (log: {log})")


_REASONS = {
    errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ENOTDIR: "a file is where a folder must be",
    errno.EEXIST: "a file is where a folder must be",
}


def explained(error: OSError, root: Path) -> StackError:
    """Convert the error to one line that names the path and says what to do."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    where = error.filename or root
    return StackError(f"cannot use {where}: {reason}; set MITOSIS_STACK_ROOT to another folder")
