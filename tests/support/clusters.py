"""A Redis Cluster of local Valkeys: three masters, each with a replica."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from stack import ports
from stack.errors import ServerFailed
from stack.ports import LOOPBACK
from stack.valkey import Valkey
from tests.support.freezing import frozen
from tests.support.servers import free_slot, start_empty
from tests.support.waiting import eventually

MASTERS = 3
PASSWORD = "for-tests"
SLOTS = 16384
NODE_TIMEOUT_MS = 1000  # a master is replaced after this time, by default after 15 s
PATIENCE_SECONDS = 60
ANSWER_SECONDS = 10.0  # a node that is neither frozen nor killed answers in this time


class Node(Valkey):
    """One server of a cluster."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root, name, append_only=True, password=PASSWORD)
        self.bus_port = 0

    def start(self) -> None:
        try:
            super().start()
        except ServerFailed:  # another process may have bound the bus port first
            super().start()

    def _settings(self, port: int) -> list[str]:
        self.bus_port = ports.free_port(preferred=self.bus_port or None)
        while self.bus_port == port:
            self.bus_port = ports.free_port()
        return [
            *super()._settings(port),
            f"primaryauth {PASSWORD}",
            "cluster-enabled yes",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            f"cluster-port {self.bus_port}",  # the default, port + 10000, can be too high
        ]

    def ask(self, *command: str | int) -> Any:
        """Send a command and return the reply as received, with texts."""
        with self._client(decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER MYID"))

    @property
    def is_master(self) -> bool:
        return self.pid is not None and self.info("replication")["role"] == "master"

    def info(self, section: str) -> dict[str, Any]:
        with self._client() as client:
            found: Any = client.info(section)
        return dict(found)

    def _client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=ANSWER_SECONDS, **options)


class LocalCluster:
    """The nodes of one cluster. A test may kill nodes and move slots; `restart` repairs that."""

    def __init__(self, root: Path) -> None:
        self.nodes = [Node(root, f"node-{number}") for number in range(2 * MASTERS)]
        self._users: dict[str, list[str]] = {}  # by name: the arguments of ACL SETUSER

    @property
    def url(self) -> str:
        """The address for OUTBOX_STREAMS_URL, of the administrator."""
        return self.url_of(f":{PASSWORD}@")

    def url_of(self, login: str) -> str:
        return f"redis-cluster://{login}{self.hosts}/0"

    @property
    def hosts(self) -> str:
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start a new cluster, without the data of earlier runs."""
        for node in self.nodes:
            start_empty(node)
        first, *others = self.nodes
        for number, master in enumerate(self.nodes[:MASTERS]):
            ends = (SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1)
            master.ask("CLUSTER ADDSLOTSRANGE", *ends)
        for node in others:
            first.ask("CLUSTER MEET", LOOPBACK, node.port, node.bus_port)
        self._wait(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes have met")
        for master, replica in zip(self.nodes[:MASTERS], self.nodes[MASTERS:], strict=True):
            replica.ask("CLUSTER REPLICATE", master.id)
        self.wait_healthy()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
            node.stop()

    def restart(self) -> None:
        """Start the nodes that were killed, which become replicas."""
        for node in self.nodes:
            node.start()
            self._set_users(node)
        self.wait_healthy()

    def set_user(self, name: str, password: str, rules: Sequence[str]) -> None:
        """Each node has its own list of users."""
        self._users[name] = ["reset", "on", f">{password}", *rules]
        for node in self.nodes:
            self._set_users(node)

    def _set_users(self, node: Node) -> None:
        for name, rules in self._users.items():
            node.ask("ACL SETUSER", name, *rules)

    def heal(self) -> None:
        """Start the nodes that were killed, and delete all keys."""
        self.restart()
        self.flush()

    def flush(self) -> None:
        for node in self.masters:
            node.ask("FLUSHALL")

    def wait_healthy(self) -> None:
        """Wait until every master has slots and a replica with its data, and every node says so."""
        self._wait(self._is_healthy, "the cluster is complete")

    @property
    def masters(self) -> list[Node]:
        return [node for node in self.nodes if node.is_master]

    def replica_of(self, master: Node) -> Node:
        return next(
            node
            for node in self.nodes
            if node.pid
            and (found := node.info("replication"))["role"] == "slave"
            and found["master_port"] == master.port
        )

    def master_of(self, name: str) -> Node:
        """The master that has the keys of a service or group."""
        with self.client() as client:
            port = client.get_node_from_key(f"{{{name}}}:cursor").port
        return next(node for node in self.nodes if node.port == port)

    def client(self) -> redis.RedisCluster:
        """redis-py's own client, for the administrator."""
        alive = next(node for node in self.nodes if node.pid)
        return redis.RedisCluster.from_url(alive.url)

    def kill_master_of(self, name: str) -> None:
        """Kill the master of a service or group. Returns when all other nodes say that its replica
        is the master."""
        master = self.master_of(name)
        replica = self.replica_of(master)
        master.kill()
        self._wait_master(replica)

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Freeze the master of a service or group, and its replica. The other masters serve."""
        master = self.master_of(name)
        pids = [node.pid for node in (master, self.replica_of(master)) if node.pid]
        with ExitStack() as at_end:
            at_end.callback(self._set, "cluster-require-full-coverage", "yes")
            self._set("cluster-require-full-coverage", "no")
            at_end.callback(self.wait_healthy)
            at_end.enter_context(frozen(pids))
            yield

    def _set(self, name: str, value: str) -> None:
        for node in self.nodes:
            node.ask("CONFIG SET", name, value)

    def fail_over(self, master: Node) -> None:
        """Let the replica of a live master take its place, as before maintenance. Returns when all
        nodes say that it is the master."""
        replica = self.replica_of(master)
        replica.ask("CLUSTER FAILOVER")
        self._wait_master(replica)

    def begin_move(self, name: str, *, to: Node) -> int:
        """Begin to move the slot of a service or group to another master. Returns the slot."""
        slot, source = key_slot(f"{{{name}}}".encode()), self.master_of(name)
        to.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", to.id)
        return slot

    def move_key(self, key: str, source: Node, *, to: Node) -> None:
        source.ask("MIGRATE", LOOPBACK, to.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", key)

    def end_move(self, slot: int, source: Node, *, to: Node) -> None:
        """Move the keys that are left, then give the slot to the master `to`."""
        while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, 100):
            for key in keys:
                self.move_key(key, source, to=to)
        for node in (to, source, *self.masters):
            node.ask("CLUSTER SETSLOT", slot, "NODE", to.id)

    def _knows_all(self, node: Node) -> bool:
        return f"cluster_known_nodes:{len(self.nodes)}" in node.ask("CLUSTER INFO")

    def _is_healthy(self) -> bool:
        infos = [node.info("replication") for node in self.nodes]
        masters = [found for found in infos if found["role"] == "master"]
        replicas = [found for found in infos if found["role"] == "slave"]
        return (
            all("cluster_state:ok" in node.ask("CLUSTER INFO") for node in self.nodes)
            and len(masters) == MASTERS
            and all(found["connected_slaves"] == 1 for found in masters)
            and all(found["master_link_status"] == "up" for found in replicas)
            and all("fail" not in node.ask("CLUSTER NODES") for node in self.nodes)
            and all(self._lists_all(node) for node in self.nodes)
        )

    def _lists_all(self, node: Node) -> bool:
        """Whether clients that ask this node find all nodes. It leaves out a replica until it has
        received the replica's offset, about 0.2 s after the replica has the data."""
        ranges: Any = node.ask("CLUSTER SLOTS")
        return len({port for _, _, *nodes in ranges for _, port, *_ in nodes}) == len(self.nodes)

    def _wait_master(self, node: Node) -> None:
        """Wait until the node is a master, and all live nodes agree about the masters."""

        def is_master() -> bool:
            alive = [each for each in self.nodes if each.pid]
            found = {frozenset(self._masters_for(each)) for each in alive}
            return len(found) == 1 and node.port in found.pop() and node.is_master

        self._wait(is_master, "all nodes say that the replica is the master")

    def _masters_for(self, node: Node) -> set[int]:
        """The ports of the masters that have slots, as this node knows them."""
        ranges: Any = node.ask("CLUSTER SLOTS")
        return {port for _, _, (_, port, *_), *_ in ranges}

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        eventually(condition, within_seconds=PATIENCE_SECONDS, what=what)


@contextmanager
def own_cluster(root: Path) -> Iterator[LocalCluster]:
    """This worker's own cluster."""
    with free_slot(root / "clusters") as slot:
        cluster = LocalCluster(slot)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
