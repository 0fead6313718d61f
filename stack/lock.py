"""Allows one supervisor per data root, because Valkey allows two servers in one folder."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from .errors import StackInUse
from .processes import Recorded

_UNKNOWN_SECONDS = 5.0  # the longest time in which the pid of the holder isn't in the file yet
_POLL_SECONDS = 0.01


class RootLock:
    """An flock on `<root>/lock`; the kernel releases it when the process that holds it ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file: IO[str] | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock; idempotent. Raises StackInUse with the pid of the lock's holder."""
        if self._file is not None:
            return
        file = self._locked()
        holder = Recorded.of(os.getpid())
        file.truncate(0)
        file.write(f"{holder.pid} {holder.identity}")
        file.flush()
        self._file = file

    def holder(self) -> int | None:
        """The pid of the process that holds the lock; 0 if unknown, None if the lock is free."""
        try:
            self._locked().close()
        except StackInUse as error:
            return error.pid or 0
        return None

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _locked(self) -> IO[str]:
        """Return the file with the lock. Raises StackInUse.

        A holder without its pid in the file has just taken the lock, or is in `holder`, or ends. So
        this waits until the pid is known or the lock is free.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        file = (self.root / "lock").open("a+")
        deadline = time.monotonic() + _UNKNOWN_SECONDS
        while not _lock(file):
            holder = _recorded(file)
            if holder or time.monotonic() > deadline:
                file.close()
                raise StackInUse(self.root, holder)
            time.sleep(_POLL_SECONDS)
        return file


def is_flocked(file: Path) -> bool:
    """Whether a process holds an flock on `file`, shared or exclusive."""
    with file.open("r") as handle:
        return not _lock(handle)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _recorded(file: IO[str]) -> int | None:
    """The pid in the file; None if there is none, or if it is of an earlier holder, which ended."""
    file.seek(0)
    pid, _, identity = file.read().strip().partition(" ")
    holder = Recorded(pid=int(pid), identity=identity) if pid.isdigit() else None
    return holder.pid if holder and holder.is_running else None
