"""System checks of the cache ring: addresses that can't be a ring, or shouldn't be this one."""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution

from .arrangement import BadNodes, name_nodes

BACKEND: Final = "placement.ring.cache.RingCache"
STORES: Final = ("OUTBOX_STREAMS_URL", "CELERY_BROKER_URL")


@register
def ring_is_usable(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What can be told without a server."""
    rings = [given for given in settings.CACHES.values() if given["BACKEND"] == BACKEND]
    return [message for given in rings for message in _faults(given)]


def _faults(given: dict[str, Any]) -> Iterator[CheckMessage]:
    location = given.get("LOCATION") or ()
    urls = location.split(",") if isinstance(location, str) else list(location)
    if not given.get("OPTIONS", {}).get("STORE"):
        yield Error("The cache ring has no STORE: its members couldn't agree.", id="ring.E004")
    try:
        named = name_nodes(urls)
    except BadNodes as exc:
        hint = "CACHE_URLS wants redis://:password@host:6379/0, a server each."
        yield Error(f"CACHES: {exc}.", hint=hint, id=exc.check)
        return
    taken = {_server(url): name for name in STORES if (url := getattr(settings, name, None))}
    for name, url in named.items():
        if setting := taken.get(_server(url)):
            yield Error(
                f"Ring node {name} is the server of {setting}.",
                hint="A cache drops what it has no room for; streams and tasks must not be.",
                id="ring.E003",
            )
    if len({urlsplit(url).netloc.rpartition("@")[0] for url in urls}) > 1:
        yield Caution(
            "The nodes of the cache ring have different passwords.",
            hint="A process that still lacks a new node's address reaches it with another's.",
            id="ring.W001",
        )


def _server(url: str) -> str:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{host}:{parts.port or 6379}" if host else parts.path
