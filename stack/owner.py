"""The user that the servers run as, and where that user can go.

PostgreSQL refuses to run as root. Root therefore starts the servers as the owner of their data,
or as `nobody`, who needs a way to the data and to the binaries: a folder below /root has none.
"""

import hashlib
import os
import pwd
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import kept_secret, write_whole

# Where root keeps the servers' data when the asked-for root can't be reached by `nobody`.
SHARED_HOME = Path("/var/lib/mitosis")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUser:
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """What makes `subprocess.Popen` start a program as this user."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, path: Path) -> Path:
        if self.is_other:
            os.chown(path, self.uid, self.gid)
        return path

    def can_enter(self, path: Path) -> bool:
        """Whether every folder down to the nearest existing one lets this user through."""
        path = path.absolute()
        while not path.exists():
            path = path.parent
        # As it is written, and where links on the way lead.
        way = {path, *path.parents, *path.resolve().parents}
        return all(self._may_execute(folder) for folder in way)

    def can_execute(self, program: Path) -> bool:
        return self.can_enter(program)

    def _may_execute(self, path: Path) -> bool:
        found = path.stat()
        if not self.is_other:
            return os.access(path, os.X_OK)
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def server_user(directory: Path) -> ServerUser:
    """Ourselves; for root the owner of the directory, or `nobody` while root owns it."""
    if os.geteuid() != 0:
        return ServerUser(uid=os.geteuid(), gid=os.getegid())
    if directory.exists() and (found := directory.stat()).st_uid != 0:
        return ServerUser(uid=found.st_uid, gid=found.st_gid)
    nobody = pwd.getpwnam("nobody")
    return ServerUser(uid=nobody.pw_uid, gid=nobody.pw_gid)


def home_of(root: Path) -> Path:
    """Where the servers of this root keep their data: the root itself if they can get there."""
    root = root.absolute()
    if server_user(root).can_enter(root):
        return root
    return SHARED_HOME / hashlib.sha256(str(root).encode()).hexdigest()[:16]


_opening = threading.Lock()


def open_home(root: Path) -> Path:
    """Make the home of this root and return it.

    A home elsewhere carries the mark of its root, so the data of a root that was deleted and made
    anew (or of another tree that once lay at the same path) is never taken over.
    """
    with _opening:
        root.mkdir(parents=True, exist_ok=True)
        home = home_of(root)
        if home == root.absolute():
            return home
        mark = kept_secret(root / "home-mark")
        theirs = home / "home-mark"
        if not theirs.exists() or theirs.read_text() != mark:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True, mode=0o755)
            write_whole(theirs, mark)
        return home
