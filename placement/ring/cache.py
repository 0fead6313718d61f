"""Django's cache on a ring of Redis (or Valkey) nodes.

Everything of Django's cache API, and `invalidate`. A value that is a pair `(version, value)` is
versioned: `get_or_set` with a loader that returns such a pair never stores or serves an older one
than this process has served, or than `invalidate(key, floor)` allows. No method raises because a
node is away: a read misses, a write goes to the process's own gutter for a minute.
See docs/adr/0009-cache-ring.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .backend import RingBackend
from .process import connect

NEGATIVE_SECONDS: Final = 10.0


class RingCache(RingBackend):
    """LOCATION: the nodes' URLs. OPTIONS: STORE (the stream server's URL; needed), RING (a name,
    for rings that share a stream server), NEGATIVE_SECONDS (the life of a loaded None)."""

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        options = params.get("OPTIONS", {})
        urls = location.split(",") if isinstance(location, str) else location
        self.ring = connect(
            tuple(urls), store_url=options["STORE"], name=options.get("RING", "ring")
        )
        self.negative_ms = round(options.get("NEGATIVE_SECONDS", NEGATIVE_SECONDS) * 1000)
