"""The cache ring: a Django cache backend over several Redis nodes."""

from typing import Final

from django.conf import settings

BACKEND: Final = f"{__name__}.cache.RingCache"


def is_used() -> bool:
    """Whether a cache of this project is a ring. The ring's modules need packages of their own."""
    return any(config["BACKEND"] == BACKEND for config in settings.CACHES.values())
