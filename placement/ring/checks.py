"""System checks of the cache ring's addresses."""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from . import BACKEND
from .arrangement import BadNodes, name_nodes
from .process import ARRANGEMENTS

STORES: Final = ("OUTBOX_STREAMS_URL", "CELERY_BROKER_URL")


@register
def ring_is_usable(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check the ring's settings without a connection to a server."""
    rings = [config for config in settings.CACHES.values() if config["BACKEND"] == BACKEND]
    return [
        message for config in rings for message in (*_wrong_options(config), *_wrong_nodes(config))
    ]


def _wrong_options(config: dict[str, Any]) -> Iterator[CheckMessage]:
    store = config.get("OPTIONS", {}).get("STORE")
    streams = getattr(settings, "OUTBOX_STREAMS_URL", None)
    if not store:
        yield Error(
            "The cache ring has no STORE.",
            hint='Set OPTIONS["STORE"] to the URL of the Redis server that keeps the list of '
            "nodes. It must not be a node.",
            id="ring.E004",
        )
    elif store == streams and (user := urlsplit(store).username) not in {None, "", "default"}:
        yield CheckWarning(
            f"The list of the ring's members is stored as {user!r}, the user of the streams.",
            hint="Set RING_STORE_URL to the address of a user that may write this list "
            "(docs/managed-servers.md). Without the right, no process uses the cache.",
            id="ring.W002",
        )
    if (
        arrangement := config.get("OPTIONS", {}).get("ARRANGEMENT", "rendezvous")
    ) not in ARRANGEMENTS:
        known = " or ".join(ARRANGEMENTS)
        yield Error(f"ARRANGEMENT is {arrangement!r}; expected {known}.", id="ring.E005")


def _wrong_nodes(config: dict[str, Any]) -> Iterator[CheckMessage]:
    location = config.get("LOCATION", "")
    urls = location.split(",") if isinstance(location, str) else list(location)
    try:
        named = name_nodes(urls)
    except BadNodes as exc:
        hint = "Expected addresses such as redis://:password@host:6379/0, one per server."
        yield Error(f"CACHES: {exc}.", hint=hint, id=exc.check)
        return
    given = {name: url for name in STORES if (url := getattr(settings, name, None))}
    taken = {server: name for name, url in given.items() for server in _servers(url)}
    if store := config.get("OPTIONS", {}).get("STORE"):
        taken.setdefault(_server(store), "STORE")
    for name, url in named.items():
        if setting := taken.get(_server(url)):
            yield Error(
                f"Ring node {name} is the same server as {setting}.",
                hint="Use another server: a full cache evicts keys, and a node may lose its data.",
                id="ring.E003",
            )
    if len({urlsplit(url).netloc.rpartition("@")[0] for url in urls}) > 1:
        yield CheckWarning(
            "The nodes of the cache ring have different passwords.",
            hint="Use one password: a process also uses it for nodes that other processes added.",
            id="ring.W001",
        )


def _servers(url: str) -> list[str]:
    """The server of this address, or the nodes in the address of a Redis Cluster."""
    if "-cluster://" not in url:
        return [_server(url)]
    nodes = urlsplit(url).netloc.rpartition("@")[2]
    return [_server(f"redis://{node}") for node in nodes.split(",")]


def _server(url: str) -> str:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{host}:{parts.port or 6379}" if host else parts.path
