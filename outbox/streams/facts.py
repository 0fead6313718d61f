"""What a stream server reports about itself."""

from dataclasses import dataclass
from typing import Any

import redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`persists` is None if the server doesn't tell. A managed server refuses CONFIG."""

    name: str
    version: str
    policy: str
    persists: bool | None


def facts_of(client: redis.Redis) -> Facts:
    """Read the facts. Changes nothing. Raises redis-py's errors."""
    server: Any = client.info("server")
    memory: Any = client.info("memory")
    name = "Valkey" if "valkey_version" in server else "Redis"
    return Facts(
        name=name,
        version=str(server.get("valkey_version", server["redis_version"])),
        policy=str(memory.get("maxmemory_policy", "unknown")),
        persists=_persists(client),
    )


def _persists(client: redis.Redis) -> bool | None:
    persistence: Any = client.info("persistence")
    if persistence.get("aof_enabled"):
        return True
    try:
        config: Any = client.config_get("save")
    except redis.ResponseError:
        return None
    return bool(config.get("save"))
