"""The servers of one data root: PostgreSQL with a standby, streams, and the ring's nodes.

servers = Servers(root)
addresses = servers.start()
…
servers.stop()
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import ServerFailed, StackError, StackInUse, explained
from .files import kept_secret
from .lock import RootLock
from .owner import home_of
from .postgres import HOST, Postgres, Standby
from .server import Server
from .valkey import Valkey

__all__ = [
    "Addresses",
    "Postgres",
    "ServerFailed",
    "Servers",
    "StackError",
    "StackInUse",
    "Standby",
    "Valkey",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses of a root's servers, with passwords."""

    admin_dsn: str  # of the superuser, for the database `postgres`
    pg_host: str
    pg_port: int
    replica_port: int | None  # None without a standby
    streams_url: str
    ring_urls: tuple[str, ...]


class Servers:
    """All servers of one root, which start and stop together.

    Only one process at a time may run the servers of a root; StackInUse names that process. `start`
    restarts servers that an earlier run left. Every method is idempotent and raises StackError.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.lock = RootLock(self.root)
        self.postgres = Postgres(self.root)
        self.standby: Standby | None = None
        self.ring: tuple[Valkey, ...] = ()

    @cached_property
    def streams(self) -> Valkey:
        password = self._password("streams")
        return Valkey(self.root, "streams", append_only=True, password=password)

    def arrange(self, *, standby: bool = True, ring: int = 3) -> None:
        """Set the list of servers but start none; `addresses` are the addresses of the last run."""
        self.standby = Standby(self.postgres) if standby else None
        self.ring = tuple(self._node(f"ring-{number}") for number in range(ring))

    def start(self, *, standby: bool = True, ring: int = 3) -> Addresses:
        """Start the servers in parallel; return when all are ready. If one fails, stop all."""
        try:
            self.lock.acquire()
            self.arrange(standby=standby, ring=ring)
            _together([self._start_databases, *(s.start for s in (self.streams, *self.ring))])
        except BaseException as error:
            with suppress(StackError, OSError):  # report only the first error
                if self.lock.is_held:
                    self.stop()
            if isinstance(error, OSError):
                raise explained(error, self.root) from error
            raise
        return self.addresses

    def stop(self, *, release: bool = True) -> None:
        """Shut all servers down cleanly, even if an earlier run started them; the primary last.

        Without `release`, this process keeps the lock of the root.
        """
        if not self.root.exists():
            return
        self.lock.acquire()
        own = {node.name: node for node in self.ring}
        names = [folder.name for folder in home_of(self.root).glob("ring-*")]
        ring = [own.get(name) or self._node(name) for name in names]
        _together([self._stop_databases, self.streams.stop, *(node.stop for node in ring)])
        if release:
            self.lock.release()

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            admin_dsn=self.postgres.dsn,
            pg_host=HOST,
            pg_port=self.postgres.port,
            replica_port=self.standby.port if self.standby else None,
            streams_url=self.streams.url,
            # A node has no port before its first start.
            ring_urls=tuple(node.url for node in self.ring if node.port),
        )

    def all(self) -> tuple[Server, ...]:
        """The servers that `start` or `arrange` set, in the order of `./dev status`."""
        standby = (self.standby,) if self.standby else ()
        return (self.postgres, *standby, self.streams, *self.ring)

    def _start_databases(self) -> None:
        self.postgres.start()
        if self.standby:
            self.standby.start()

    def _stop_databases(self) -> None:
        (self.standby or Standby(self.postgres)).stop()
        self.postgres.stop()

    def _node(self, name: str) -> Valkey:
        return Valkey(self.root, name, append_only=False, password=self._password("ring"))

    def _password(self, name: str) -> str:
        return kept_secret(self.root / "secrets" / name)


def _together(actions: Iterable[Callable[[], Any]]) -> None:
    """Run the actions in parallel, wait for all of them, then raise the first failure."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        running: list[Future[Any]] = [pool.submit(action) for action in actions]
    for action in running:
        action.result()
