"""The streams of services on the masters of a Redis Cluster (Redis or Valkey).

All keys of a service or group have the same hash tag, so one master has them, and each call uses
this master as it would use a single server. This module only finds the masters.

No command is repeated here. If a master was replaced or a slot moves, the call raises an error, its
caller waits and tries again, and then the masters are looked up again. redis-py's RedisCluster does
more: it repeats commands and tries one node after another, so that a call takes several timeouts,
and its user needs the right to list the server's commands.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.cluster import parse_cluster_slots
from redis.exceptions import AskError, TryAgainError

from ..errors import StreamsMisconfigured, Unconfigured
from .server import Located, Server, is_readable

Node = tuple[str, int]  # host and port

SCHEMES = {"redis-cluster": "redis", "rediss-cluster": "rediss"}
# A nudge connection gets no replies, so it doesn't see that a slot has moved. It is opened again
# after this time. Until then, events of a service that moved wait for the relay's next check.
LOCATED_SECONDS = 5.0
EXAMPLE = "redis-cluster://user:password@host1:6379,host2:6379,host3:6379/0"


def is_cluster(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


class Cluster:
    """The servers of one cluster. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._address = Address.of(url)
        self._servers: Mapping[Node, Server] = {
            node: self._server(node) for node in self._address.nodes
        }
        self._turn = count()  # which node is asked next
        self._located: Located | None = None
        self._last: Located | None = None  # also after an error
        self.first = next(iter(self._servers.values()))

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    @contextmanager
    def of(self, name: str, *, quick: bool = False) -> Iterator[Server]:
        """The master that has the keys of the service or group `name`. After an error in the block,
        the next call looks up the masters again."""
        with self._looking_up_after_errors():
            yield self._locate(quick=quick).server_of(name)

    @contextmanager
    def every(self, *, quick: bool = False) -> Iterator[Sequence[Server]]:
        """All masters. After an error in the block, the next call looks them up again."""
        with self._looking_up_after_errors():
            yield self._locate(quick=quick).masters

    def locate(self) -> Located:
        """Look up the masters now."""
        return self._look_up(quick=False)

    @contextmanager
    def _looking_up_after_errors(self) -> Iterator[None]:
        try:
            yield
        except AskError as exc:  # also raised for MOVED
            self._located = None
            raise TryAgainError(f"it is at another node of the cluster: slot {exc}") from exc
        except redis.RedisError:
            self._located = None
            raise

    def _locate(self, *, quick: bool = False) -> Located:
        if found := self._located:
            return found
        try:
            return self._look_up(quick=quick)
        except redis.RedisError:
            if quick and self._last:  # perhaps only the node that was asked is down
                return self._last
            raise

    def _look_up(self, *, quick: bool) -> Located:
        """Ask a node for the masters. A quick call asks one node, so that it waits for one timeout;
        the next call asks the next node: one that was cut off from the others may be wrong. A call
        that isn't quick asks until one answers."""
        failure: redis.RedisError = redis.ConnectionError("no node of the cluster knows its slots")
        servers, first = list(self._servers.items()), next(self._turn)
        for number in range(1 if quick else len(servers)):  # other threads take turns meanwhile
            node, server = servers[(first + number) % len(servers)]
            try:
                if found := self._ask(node[0], server.quick if quick else server.look_up):
                    self._located = self._last = found
                    return found
            except redis.RedisError as exc:
                failure = exc
        raise failure

    def _ask(self, host: str, client: redis.Redis) -> Located | None:
        """The cluster as the node at `host` describes it; None if the node knows no slots."""
        try:
            reply: Any = client.cluster("SLOTS")
        except redis.ResponseError as exc:
            if "cluster support disabled" in str(exc):
                raise StreamsMisconfigured(
                    f"{host} in OUTBOX_STREAMS_URL is no node of a Redis Cluster; start the "
                    "address of a single server with redis:// (rediss:// for TLS)"
                ) from exc
            raise
        if not (slots := parse_cluster_slots(reply, current_host=host)):
            return None
        primaries = [found["primary"] for found in slots.values()]
        replicas = [each for found in slots.values() for each in found["replicas"]]
        # Nodes of the address stay: if all others were replaced, one of them may still answer.
        known = dict.fromkeys([*primaries, *replicas, *self._address.nodes])
        self._servers = {node: self._servers.get(node) or self._server(node) for node in known}
        return Located(
            [(*slot_range, self._servers[found["primary"]]) for slot_range, found in slots.items()],
            [self._servers[node] for node in dict.fromkeys(replicas)],
            LOCATED_SECONDS,
        )

    def _server(self, node: Node) -> Server:
        name = "the stream server {}:{}".format(*node)
        return Server(self._address.url_of(node), name=name, in_cluster=True)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `redis-cluster://user:password@host1:port1,host2:port2/0?option=value`."""

    scheme: str
    login: str = field(repr=False)
    nodes: Sequence[Node]
    options: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Raises Unconfigured, without the password."""
        try:
            parts = urlsplit(url)
        except ValueError:  # its message can have a part of the password
            raise _unreadable() from None
        login, _, hosts = parts.netloc.rpartition("@")
        nodes = [node for host in hosts.split(",") if (node := _node(host))]
        if len(nodes) < len(hosts.split(",")):
            raise Unconfigured(
                f"OUTBOX_STREAMS_URL has a node without host:port; expected {EXAMPLE}"
            )
        if parts.path not in ("", "/", "/0"):
            raise Unconfigured(
                "OUTBOX_STREAMS_URL has another database than 0, which the streams use in a Redis "
                f"Cluster; expected {EXAMPLE}"
            )
        found = cls(SCHEMES[parts.scheme], login, nodes, parts.query)
        if not all(is_readable(found.url_of(node)) for node in nodes):
            raise _unreadable()
        return found

    def url_of(self, node: Node) -> str:
        host, port = node
        login = f"{self.login}@" if self.login else ""
        name = f"[{host}]" if ":" in host else host
        options = f"?{self.options}" if self.options else ""
        return f"{self.scheme}://{login}{name}:{port}/0{options}"


def _unreadable() -> Unconfigured:
    return Unconfigured(
        "OUTBOX_STREAMS_URL can't be read: percent-encode its user and password, and correct its "
        f"options after ?; expected {EXAMPLE}"
    )


def _node(text: str) -> Node | None:
    try:
        parts = urlsplit(f"//{text.strip()}")
        return (parts.hostname, parts.port or 6379) if parts.hostname else None
    except ValueError:
        return None
