"""Django's cache on a ring of Redis (or Valkey) nodes.

The cache has Django's whole cache API, and `invalidate`. A pair `(version, value)` is a versioned
value. If the loader returns such pairs, `get_or_set` never stores or serves a version that is older
than a version that this process has served, or below the floor of `invalidate(key, floor)`. If a
node is down, no method fails: a read misses, and the process's gutter keeps a write for a minute.
See docs/adr/0009-cache-ring.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from .backend import RingBackend
from .process import connect

NEGATIVE_SECONDS: Final = 10.0


class RingCache(RingBackend):
    """LOCATION: the nodes' URLs. OPTIONS: STORE (the URL of the Redis server that keeps the list of
    nodes; required), RING (a name, if several rings share a store), NEGATIVE_SECONDS (how long a
    loaded None is cached), ARRANGEMENT (`rendezvous`, or `modulo` to compare)."""

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        options = params.get("OPTIONS", {})
        if not options.get("STORE"):
            raise ImproperlyConfigured(
                'the cache ring has no OPTIONS["STORE"]: set it to the URL of the Redis server '
                "that keeps the list of nodes"
            )
        urls = location.split(",") if isinstance(location, str) else location
        self.ring = connect(
            tuple(urls),
            store_url=options["STORE"],
            name=options.get("RING", "ring"),
            arrangement=options.get("ARRANGEMENT", "rendezvous"),
        )
        self.negative_ms = round(options.get("NEGATIVE_SECONDS", NEGATIVE_SECONDS) * 1000)
