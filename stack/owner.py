"""The operating system user of the servers, and the paths that this user can access.

PostgreSQL refuses to run as root, so root starts the servers as the owner of their data, or as
`nobody`. That user needs access to the data and the binaries, and has no access below /root.
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

from .files import kept_secret, write_atomically

# If `nobody` has no access to the data root, root stores the servers' data in this folder.
SHARED_HOME = Path("/var/lib/mitosis")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUser:
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen` to start a program as this user."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def chown(self, path: Path) -> Path:
        """Make this user the owner of `path`, and return `path`."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)
        return path

    def can_reach(self, path: Path) -> bool:
        """Whether this user may execute (or search) `path` and its parents, if they exist."""
        path = path.absolute()
        while not path.exists():
            path = path.parent
        # The path as written with its parents, and the parents after resolving symbolic links.
        parts = {path, *path.parents, *path.resolve().parents}
        return all(self._may_execute(part) for part in parts)

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
    """The current user. For root: the directory's owner, or `nobody` if root owns the directory."""
    if os.geteuid() != 0:
        return ServerUser(uid=os.geteuid(), gid=os.getegid())
    if directory.exists() and (found := directory.stat()).st_uid != 0:
        return ServerUser(uid=found.st_uid, gid=found.st_gid)
    nobody = pwd.getpwnam("nobody")
    return ServerUser(uid=nobody.pw_uid, gid=nobody.pw_gid)


def home_of(root: Path) -> Path:
    """The folder of the servers' data: `root` itself if the servers' user can access it."""
    root = root.absolute()
    if server_user(root).can_reach(root):
        return root
    return SHARED_HOME / hashlib.sha256(str(root).encode()).hexdigest()[:16]


_open_lock = threading.Lock()


def open_home(root: Path) -> Path:
    """Create the home of this root, which is the folder of the servers' data, and return it.

    A home outside the root contains a copy of the root's random mark. If the marks differ, the home
    belongs to an earlier root at the same path. This function then deletes the home's data.
    """
    with _open_lock:
        root.mkdir(parents=True, exist_ok=True)
        home = home_of(root)
        if home == root.absolute():
            return home
        mark = kept_secret(root / "home-mark")
        if not has_home(root):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True, mode=0o755)
            write_atomically(home / "home-mark", mark)
        return home


def has_home(root: Path) -> bool:
    """Whether the home of this root exists, and isn't the home of an earlier root at its path."""
    home = home_of(root)
    if home == root.absolute():
        return home.exists()
    marks = [folder / "home-mark" for folder in (root, home)]
    return all(m.exists() for m in marks) and len({m.read_text().strip() for m in marks}) == 1
