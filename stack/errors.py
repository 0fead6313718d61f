"""Errors of the stack. Every message is one line, fit for a terminal."""

import errno
from pathlib import Path


class StackError(Exception):
    """The stack can't do what was asked; the message names the cause and the remedy."""


class StackInUse(StackError):
    """Another live process holds the lock of this data root."""

    def __init__(self, root: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{holder} is running the stack in {root}")
        self.pid = pid


class ServerFailed(StackError):
    """A server ended, or didn't get ready, while it was being started."""

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
    """The error as one line, with the path and a remedy."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    where = error.filename or root
    return StackError(f"cannot use {where}: {reason}; set MITOSIS_STACK_ROOT to another folder")
