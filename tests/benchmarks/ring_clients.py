"""Runs the ring and the clients for comparison in one process. The argument is JSON.

`tests.benchmarks.ring` starts it. All clients get the same keys and values. RedisCache stores
pickles, and the hand-written client stores JSON.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle
from typing import Any

import django
import redis
from django.core.cache.backends.redis import RedisCache
from uhashring import HashRing

from placement.ring import arrangement as ring
from placement.ring.cache import RingCache
from tests.benchmarks.figures import by_turns

BATCH = 100
LIFE_SECONDS = 300
KEY = "accounts:user:01990000-0000-7000-8000-{:012d}"


def user(number: int) -> dict[str, Any]:
    """Returns a user with the fields and the size of a user that accounts caches."""
    return {
        "schema": 1,
        "id": KEY.format(number)[14:],
        "name": f"Customer {number}",
        "email": f"customer-{number}@example.com",
        "is_active": True,
        "credit_limit": "1000.00",
        "reserved": "12.50",
        "version": number % 9 + 1,
    }


class Hashed:
    """A hand-written client: uhashring finds each key's node, redis-py reads the keys of a node."""

    def __init__(self, urls: list[str]) -> None:
        self._clients = {url: redis.Redis.from_url(url) for url in urls}
        self._ring = HashRing(urls)

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for url, group in self._grouped(keys).items():
            answers: Any = self._clients[url].mget(group)
            found |= {
                key: json.loads(answer)
                for key, answer in zip(group, answers, strict=True)
                if answer is not None
            }
        return found

    def set_many(self, values: dict[str, Any]) -> None:
        for url, group in self._grouped(list(values)).items():
            with self._clients[url].pipeline(transaction=False) as pipe:
                for key in group:
                    pipe.set(key, json.dumps(values[key]), ex=LIFE_SECONDS)
                pipe.execute()

    def _grouped(self, keys: list[str]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[self._ring.get_node(key)].append(key)
        return groups


def rate(work: Callable[[], int], seconds: float) -> float:
    """Calls `work` for `seconds`. Returns the sum of its results per second."""
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        done += work()
    return done / took


def lookups(asked: dict[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    found = []
    for number in asked["lookups"]:
        names = [f"10.0.0.{n}:6379/0" for n in range(number)]
        view, other = ring.create_view(names, now=1), HashRing(names)

        def through(find: Callable[[str], Any]) -> Callable[[], int]:
            return lambda: len([find(key) for key in keys[:1000]])

        measured = by_turns(
            asked["rounds"],
            ring=lambda find=view.place: rate(through(find), asked["seconds"]),
            uhashring=lambda find=other.get_node: rate(through(find), asked["seconds"]),
        )
        found.append({"nodes": number, **measured})
    return found


def many(asked: dict[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    ours = RingCache(asked["nodes"], {"OPTIONS": {"STORE": asked["store"], "RING": "bench-ring"}})
    single = RedisCache(asked["single"], {})
    hashed = Hashed(asked["nodes"])
    batches = cycle(
        [
            {key: user(int(key[-12:])) for key in keys[start : start + BATCH]}
            for start in range(0, len(keys), BATCH)
        ]
    )

    def setting(cache: Any, **how: Any) -> Callable[[], float]:
        return lambda: rate(lambda: cache.set_many(next(batches), **how) or BATCH, asked["seconds"])

    def getting(cache: Any) -> Callable[[], float]:
        def work() -> int:
            found = cache.get_many(list(next(batches)))
            assert len(found) == BATCH, "keys are missing"
            return BATCH

        return lambda: rate(work, asked["seconds"])

    def reading(cache: Any) -> Callable[[], float]:
        def work() -> int:
            assert cache.get(next(iter(next(batches)))) is not None
            return 1

        return lambda: rate(work, asked["seconds"])

    for start in range(0, len(keys), BATCH):
        batch = {key: user(int(key[-12:])) for key in keys[start : start + BATCH]}
        assert ours.set_many(batch, LIFE_SECONDS) == []
        single.set_many(batch, LIFE_SECONDS)
        hashed.set_many(batch)
    ways = {"ring": ours, "redis_cache": single, "uhashring": hashed}
    gets = by_turns(asked["rounds"], **{name: getting(cache) for name, cache in ways.items()})
    one = by_turns(asked["rounds"], ring=reading(ours), redis_cache=reading(single))
    sets = by_turns(
        asked["rounds"],
        ring=setting(ours, timeout=LIFE_SECONDS),
        redis_cache=setting(single, timeout=LIFE_SECONDS),
        uhashring=setting(hashed),
    )
    return [
        {"operation": "get_many", **gets},
        {"operation": "set_many", **sets},
        {"operation": "get", **one},
    ]


def main(question: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    asked = json.loads(question)
    keys = [KEY.format(number) for number in range(asked["keys"])]
    report = {"batch": BATCH, "lookups": lookups(asked, keys), "many": many(asked, keys)}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
