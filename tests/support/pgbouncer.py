"""A PgBouncer in transaction mode, in front of databases of a stack.

`python -m tests.support.pgbouncer` unpacks Debian's packages into .local/pgbouncer, if the machine
has no pgbouncer. It installs nothing and starts nothing.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from psycopg2.extensions import parse_dsn

from stack.ports import free_port
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

UNPACKED: Final = CHECKOUT / ".local" / "pgbouncer"
PACKAGES: Final = ("pgbouncer", "libevent-2.1-7", "libc-ares2")
SESSIONS: Final = 3  # of each pool: fewer than the threads of a web server
STATEMENT_TIMEOUT_MS: Final = 10_000


def program() -> Path | None:
    """The path of pgbouncer, if there is one."""
    found = shutil.which("pgbouncer") or UNPACKED / "usr" / "sbin" / "pgbouncer"
    return Path(found) if Path(found).exists() else None


def unpack() -> None:
    """Download and unpack the packages. Raises CalledProcessError."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "download", *PACKAGES]
        subprocess.run(download, cwd=folder, check=True)
        for package in Path(folder).glob("*.deb"):
            extract = ["dpkg", "-x", str(package), str(UNPACKED)]
            subprocess.run(extract, check=True)


class Pooler:
    """A PgBouncer in front of databases. It has SESSIONS sessions for each database and user."""

    def __init__(self, dsns: Mapping[str, str], folder: Path) -> None:
        self._port = free_port()
        self._parts = {name: parse_dsn(dsn) for name, dsn in dsns.items()}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.chmod(0o755)
        users = folder / "users.txt"
        logins = "".join(f'"{p["user"]}" "{p["password"]}"\n' for p in self._parts.values())
        users.write_text(logins)
        users.chmod(0o644)
        self._settings = folder / "pgbouncer.ini"
        self._settings.write_text(_config(self._parts, port=self._port, users=users))
        self._settings.chmod(0o644)
        for each in (program(), *UNPACKED.rglob("*.so*")):
            shutil.copy(str(each), folder)

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each database through the pooler."""
        return {
            name: f"postgresql://{p['user']}:{p['password']}@127.0.0.1:{self._port}/{name}"
            for name, p in self._parts.items()
        }

    def start(self) -> None:
        with (self._folder / "pgbouncer.log").open("a") as log:
            self._process = subprocess.Popen(
                [str(self._folder / "pgbouncer"), str(self._settings)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"LD_LIBRARY_PATH": str(self._folder)},
                **(
                    {"user": "nobody", "group": "nogroup", "extra_groups": []}
                    if not os.getuid()
                    else {}
                ),
            )
        what = f"PgBouncer answers: {self._folder}"
        eventually(lambda: _answers(self._port), within_seconds=10, what=what)

    def kill(self) -> None:
        """All clients and sessions lose their connection at once."""
        if self._process:
            self._process.kill()
            self._process.wait(10)


@contextmanager
def pooled(dsns: Mapping[str, str]) -> Iterator[Pooler]:
    """Run PgBouncer in front of the databases."""
    # It refuses to run as root. Another user can't read the folders of root's tests.
    folder = Path(tempfile.mkdtemp(prefix="mitosis-pgbouncer-"))
    pooler = Pooler(dsns, folder)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.kill()
        shutil.rmtree(folder)


def _config(parts: Mapping[str, Mapping[str, str]], *, port: int, users: Path) -> str:
    databases = "\n".join(
        f"{name} = host={p['host']} port={p['port']} dbname={p['dbname']} "
        f"connect_query='SET statement_timeout = {STATEMENT_TIMEOUT_MS}'"
        for name, p in parts.items()
    )
    return f"""\
[databases]
{databases}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {SESSIONS}
max_client_conn = 200
"""


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    if program() is None:
        unpack()
    sys.stdout.write(f"{program()}\n")
