"""The connections to one stream server, and which server has which keys."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ClusterDownError, MovedError
from redis.retry import Retry

from ..errors import StreamsMisconfigured
from ..keys import cursor
from .wire import Wire

QUICK_TIMEOUT_SECONDS = 0.04  # for calls that a request waits for
LOOK_UP_TIMEOUT_SECONDS = 1.0  # to ask a node of a cluster for the masters
TIMEOUT_SECONDS = 10.0

ONE_NODE = (
    "the address in OUTBOX_STREAMS_URL is one node of a Redis Cluster; start it with "
    "redis-cluster:// (rediss-cluster:// for TLS)"
)


class Server:
    """The connections to one server. The first command opens a connection. Safe to share between
    threads."""

    def __init__(
        self, url: str, *, name: str = "the stream server", in_cluster: bool = False
    ) -> None:
        self.name = name  # for messages
        self.in_cluster = in_cluster
        self.client = _client(url, connect_seconds=2.0, reply_seconds=TIMEOUT_SECONDS)
        self.quick, self.look_up = (
            _client(url, connect_seconds=seconds, reply_seconds=seconds)
            for seconds in (QUICK_TIMEOUT_SECONDS, LOOK_UP_TIMEOUT_SECONDS)
        )
        self._idle_wires: deque[Wire] = deque()

    def close(self) -> None:
        for wire in self._idle_wires:
            wire.close()
        for client in (self.client, self.quick, self.look_up):
            client.close()

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A connection that no other thread uses during the block."""
        try:
            wire = self._idle_wires.pop()
        except IndexError:
            wire = Wire(self.client)
        if wire.process != os.getpid():  # the parent process still uses this wire
            wire = Wire(self.client)
        try:
            yield wire
        finally:
            self._idle_wires.append(wire)


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Which server has which keys, as far as it is known now."""

    slots: Sequence[tuple[int, int, Server]]  # first slot, last slot, master
    replicas: Sequence[Server] = ()
    valid_seconds: float = inf  # how long a nudge connection may use it
    _known: dict[str, Server] = field(default_factory=dict)  # by name of a service or group

    @property
    def masters(self) -> list[Server]:
        return list(dict.fromkeys(server for _, _, server in self.slots))

    def server_of(self, name: str) -> Server:
        """The server of a service or group. Raises ClusterDownError if no master has its slot."""
        if (found := self._known.get(name)) is None:
            slot = key_slot(cursor(name).encode())
            found = next((s for first, last, s in self.slots if first <= slot <= last), None)
            if found is None:
                raise ClusterDownError(f"no master has the slot {slot} of {name}")
            self._known[name] = found
        return found


class SingleServer:
    """The server of all services. `Cluster` has the same methods."""

    def __init__(self, url: str) -> None:
        self.first = Server(url)

    def close(self) -> None:
        self.first.close()

    @contextmanager
    def of(self, name: str, *, quick: bool = False) -> Iterator[Server]:
        """The server that has the keys of the service or group `name`."""
        try:
            yield self.first
        except MovedError as exc:
            raise StreamsMisconfigured(ONE_NODE) from exc

    @contextmanager
    def every(self, *, quick: bool = False) -> Iterator[Sequence[Server]]:
        """All servers that accept writes."""
        yield [self.first]

    def locate(self) -> Located:
        return Located([(0, REDIS_CLUSTER_HASH_SLOTS - 1, self.first)])


def _client(url: str, *, connect_seconds: float, reply_seconds: float) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=connect_seconds,
        socket_timeout=reply_seconds,
        retry=Retry(NoBackoff(), 0),  # only the caller knows whether a retry is safe
        health_check_interval=0,
        protocol=2,
    )


def is_readable(url: str) -> bool:
    """Whether redis-py can read the address and its options. Opens no connection."""
    try:
        pool = redis.ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError):
        return False
    return True
