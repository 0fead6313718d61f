"""The servers of one data root: PostgreSQL with standbys, streams, and the ring's nodes.

servers = Servers(root)
addresses = servers.start()
…
servers.stop()
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from . import users
from .credentials import Credentials
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
class OwnServer:
    """The PostgreSQL server of one service, and its standby."""

    primary: Postgres
    standby: Standby

    @classmethod
    def of(cls, root: Path, service: str) -> "OwnServer":
        primary = Postgres(root, f"postgres-{service}")
        return cls(primary=primary, standby=Standby(primary, f"{primary.name}-replica"))

    def start(self) -> None:
        self.primary.start()
        self.standby.start()

    def stop(self) -> None:
        try:
            self.standby.stop()
        finally:
            self.primary.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses of a root's servers, with passwords."""

    admin_dsn: str  # of the superuser, for the database `postgres`
    pg_host: str
    pg_port: int
    replica_port: int | None  # None without a standby
    streams_url: str  # of the administrator
    ring_urls: tuple[str, ...]
    # The ports of the services that have a server of their own: of its primary and of its standby.
    own_ports: Mapping[str, tuple[int, int]] = field(default_factory=dict)


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
        self.own: dict[str, OwnServer] = {}  # by service

    @cached_property
    def streams(self) -> Valkey:
        password, credentials = self._password("streams"), Credentials.of(self.root)
        given = partial(users.lines, credentials.streams_password, lab=True)
        return Valkey(self.root, "streams", append_only=True, password=password, users=given)

    def arrange(self, *, standby: bool = True, ring: int = 3, own: Sequence[str] = ()) -> None:
        """Set the list of servers but start none; `addresses` are the addresses of the last run.

        `own` names the services that have a PostgreSQL server of their own, with a standby.
        """
        self.standby = Standby(self.postgres) if standby else None
        self.ring = tuple(self._node(f"ring-{number}") for number in range(ring))
        self.own = {service: OwnServer.of(self.root, service) for service in own}

    def start(self, *, standby: bool = True, ring: int = 3, own: Sequence[str] = ()) -> Addresses:
        """Start the servers in parallel; return when all are ready. If one fails, stop all."""
        try:
            self.lock.acquire()
            self.arrange(standby=standby, ring=ring, own=own)
            others: list[Server | OwnServer] = [self.streams, *self.ring, *self.own.values()]
            _together([self._start_databases, *(server.start for server in others)])
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
        others: list[Server | OwnServer] = [self.streams, *ring, *self._own_servers()]
        _together([self._stop_databases, *(server.stop for server in others)])
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
            own_ports={name: (o.primary.port, o.standby.port) for name, o in self.own.items()},
        )

    def all(self) -> tuple[Server, ...]:
        """The servers that `start` or `arrange` set, in the order of `./dev status`."""
        standby = (self.standby,) if self.standby else ()
        own = [server for one in self.own.values() for server in (one.primary, one.standby)]
        return (self.postgres, *standby, *own, self.streams, *self.ring)

    def of(self, service: str, *, own: bool) -> Postgres:
        """The primary for this service: its own server, or the server that services share."""
        return self.own[service].primary if own else self.postgres

    def retire(self, service: str) -> None:
        """Stop the service's own server, which no longer has any data in use."""
        self.own.pop(service).stop()

    def _start_databases(self) -> None:
        self.postgres.start()
        if self.standby:
            self.standby.start()

    def _stop_databases(self) -> None:
        try:
            (self.standby or Standby(self.postgres)).stop()
        finally:
            self.postgres.stop()

    def _own_servers(self) -> list[OwnServer]:
        """Those of this run and of earlier runs."""
        names = [folder.name for folder in home_of(self.root).glob("postgres-*")]
        services = [name.removeprefix("postgres-") for name in names if "replica" not in name]
        return [self.own.get(name) or OwnServer.of(self.root, name) for name in services]

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
