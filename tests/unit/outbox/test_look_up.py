"""Which nodes of a Redis Cluster are asked for the masters."""

import pytest
import redis

from outbox.streams.cluster import Cluster
from outbox.streams.server import Located


def test_each_node_is_asked_although_another_thread_asks_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, asked = Cluster("redis-cluster://dead:1,alive:2/0"), list[str]()

    def ask(host: str, _: redis.Redis) -> Located:
        asked.append(host)
        next(cluster._turn)  # another thread
        if host == "dead":
            raise redis.ConnectionError(host)
        return Located([])

    monkeypatch.setattr(cluster, "_ask", ask)
    cluster.locate()
    assert asked == ["dead", "alive"]
