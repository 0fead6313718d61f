"""Measures how fast the cache ring finds a key's node, and how fast it reads and writes keys."""

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.figures import middle, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale

NODES = 3
LOOKUPS = (3, 8, 32)  # nodes


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Compares look-ups with uhashring, and many keys with Django's RedisCache on one node and with
    uhashring and redis-py's MGET on the same nodes. One process measures all clients by turns."""
    progress.begin("ring", steps=2)
    environment = ground.need_application()["accounts"]
    ground.servers.start(standby=False, ring=NODES + 1)
    *nodes, single = ground.servers.addresses.ring_urls
    question = {
        "nodes": nodes,
        "single": single,
        "store": ground.servers.addresses.streams_url,
        "keys": scale.ring_keys,
        "rounds": scale.rounds,
        "seconds": scale.ring_seconds,
        "lookups": LOOKUPS,
    }
    progress.step("look-ups, then many keys")
    answer = ground.ask("ring_clients", environment, **question)
    return {
        "keys": scale.ring_keys,
        "nodes": NODES,
        "batch": answer["batch"],
        "lookups": [_lookup(one) for one in answer["lookups"]],
        "many": [_many(one) for one in answer["many"]],
    }


def _lookup(rounds: Mapping[str, Any]) -> dict[str, Any]:
    ours, theirs = middle(rounds["ring"]), middle(rounds["uhashring"])
    return {
        "nodes": rounds["nodes"],
        "lookups_per_second": round(ours),
        "uhashring_lookups_per_second": round(theirs),
        "ratio": ratio(ours, theirs),
    }


def _many(rounds: Mapping[str, Any]) -> dict[str, Any]:
    ring, single = middle(rounds["ring"]), middle(rounds["redis_cache"])
    found = {
        "operation": rounds["operation"],
        "keys_per_second": round(ring),
        "redis_cache_keys_per_second": round(single),
        "ratio": ratio(ring, single),
    }
    if rounds.get("uhashring"):
        other = middle(rounds["uhashring"])
        found |= {"uhashring_keys_per_second": round(other), "uhashring_ratio": ratio(ring, other)}
    return found
