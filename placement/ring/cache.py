"""Django's cache on a ring of Redis (or Valkey) nodes.

It has Django's whole cache API, and `invalidate`. A value that is a pair `(version, value)` is
versioned: `get_or_set` with a loader that returns such pairs never stores or serves a version older
than one that this process has served, or below the floor of `invalidate(key, floor)`. No method
raises because a node is down: a read misses, and a write goes to the process's gutter for a minute.
See docs/adr/0009-cache-ring.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .backend import RingBackend
from .process import connect

NEGATIVE_SECONDS: Final = 10.0


class RingCache(RingBackend):
    """LOCATION: the nodes' URLs. OPTIONS: STORE (the stream server's URL; required), RING (a name,
    for rings that share a stream server), NEGATIVE_SECONDS (the life of a loaded None)."""

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        options = params.get("OPTIONS", {})
        urls = location.split(",") if isinstance(location, str) else location
        self.ring = connect(
            tuple(urls), store_url=options["STORE"], name=options.get("RING", "ring")
        )
        self.negative_ms = round(options.get("NEGATIVE_SECONDS", NEGATIVE_SECONDS) * 1000)
