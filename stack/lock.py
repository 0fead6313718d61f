"""Allows one supervisor per data root, because Valkey allows two servers in one folder."""

import fcntl
import os
from pathlib import Path
from typing import IO

from .errors import StackInUse


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
        self.root.mkdir(parents=True, exist_ok=True)
        file = (self.root / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise StackInUse(self.root, int(holder) if holder.isdigit() else None) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def is_flocked(file: Path) -> bool:
    """Whether a process holds an flock on `file`, shared or exclusive."""
    with file.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
