"""Databases, their router, and the cache.

In the monolith, the alias of accounts is `default` and the alias of orders is `orders`. In other
shapes, `default` is the alias of the only service. The lab's aliases are `lab` and `lab_copy`.
"""

from typing import Any

from psycopg2.extensions import parse_dsn

from config.environ import SERVICES as ALL_SERVICES
from config.environ import environment

_env = environment()

# The alias of each service's tables. Apps that aren't listed (contrib) use `default`.
PLACEMENT_HOMES = {
    label: label if position else "default" for position, label in enumerate(_env.labels)
}
# All services, also those of other deployments: a consistency token has a part for each service.
PLACEMENT_SERVICES = (*ALL_SERVICES, "lab") if _env.lab else ALL_SERVICES
PLACEMENT_SERVED_BY = _env.lab  # name the server of each read in a header
PLACEMENT_PROBLEM_RENDERER = "config.problems.respond"
PLACEMENT_ADMIN_DATABASE_URL = _env.admin_database_url  # only `manage.py provision` uses it
PLACEMENT_POOLER = _env.pooler  # a check then looks for the time limit that the pooler sets
PLACEMENT_CONNECTIONS = _env.connections  # the limit that `manage.py provision` sets
DATABASE_ROUTERS = ["placement.router.PlacementRouter"]

# For each service that has replicas, the aliases of the replicas.
PLACEMENT_REPLICAS = {
    service: tuple(f"{PLACEMENT_HOMES[service]}-replica-{number}" for number in range(len(urls)))
    for service, urls in _env.replica_urls.items()
    if urls
}
PLACEMENT_REPLICA_LAG_SECONDS = _env.replica_lag_seconds


def _database(url: str) -> dict[str, Any]:
    """Convert a libpq URL for Django. The URL may have several hosts and libpq's own options.

    With several hosts, libpq connects to the host that accepts writes, also after a failover.
    """
    parts = parse_dsn(url)
    if "," in parts.get("host", ""):
        parts.setdefault("target_session_attrs", "read-write")
    named = {key: parts.pop(key, "") for key in ("dbname", "user", "password", "host", "port")}
    sessions = _of_a_pooler() if _env.pooler else _own(parts.pop("options", ""))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": named["dbname"],
        "USER": named["user"],
        "PASSWORD": named["password"],
        "HOST": named["host"],
        "PORT": named["port"],
        "CONN_MAX_AGE": 60,  # seconds
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,  # seconds
            "application_name": f"mitosis-{_env.service}",
            **parts,
            **sessions.pop("OPTIONS", {}),
        },
        **sessions,
    }


def _own(options: str) -> dict[str, Any]:
    """The settings of sessions that this process doesn't share."""
    milliseconds = round(_env.statement_timeout_seconds * 1000)
    # Handlers lock rows and read them again. At a stricter level, which a role or a database can
    # have as its default, concurrent requests would fail.
    ours = f"-c statement_timeout={milliseconds} -c default_transaction_isolation=read\\ committed"
    return {"OPTIONS": {"options": f"{ours} {options}".strip()}}


def _of_a_pooler() -> dict[str, Any]:
    """A pooler refuses `options`, and its sessions serve other clients between two transactions.

    The roles have the level READ COMMITTED, and readers are read-only (placement.provision). The
    pooler itself sets the time limit (docs/managed-servers.md).
    """
    return {"DISABLE_SERVER_SIDE_CURSORS": True}


def _replica(url: str, *, of: str) -> dict[str, Any]:
    database = _database(url)
    # Each request first queries the replica's position. That query also checks the connection.
    database["CONN_HEALTH_CHECKS"] = False
    database["TEST"] = {"MIRROR": of}
    options = database["OPTIONS"]
    options["connect_timeout"] = 2  # seconds; then the primary is used
    options["tcp_user_timeout"] = 2000  # milliseconds, for a host that stops answering
    # After a promotion the server would accept writes, so refuse them here too.
    if "options" in options:
        options["options"] += " -c default_transaction_read_only=on"
    return database


DATABASES = {
    PLACEMENT_HOMES[service]: _database(url) for service, url in _env.database_urls.items()
}
# Migrations, rebuilds, restamps and erasures use these roles (placement.owner). Only processes
# that run these commands get the addresses.
PLACEMENT_OWNERS = {
    PLACEMENT_HOMES[service]: _database(url) for service, url in _env.owner_database_urls.items()
}
OUTBOX_AS_OWNER = "placement.owner.as_owner"
for _service, _aliases in PLACEMENT_REPLICAS.items():
    for _alias, _url in zip(_aliases, _env.replica_urls[_service], strict=True):
        DATABASES[_alias] = _replica(_url, of=PLACEMENT_HOMES[_service])
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Without a ring, each process has a cache in its own memory. Other processes can't invalidate that
# cache, so data that must not be stale isn't cached.
_RING: dict[str, Any] = {
    "BACKEND": "placement.ring.cache.RingCache",
    "LOCATION": list(_env.cache_urls),
    "KEY_PREFIX": "mitosis",
    "OPTIONS": {"STORE": _env.ring_store_url or _env.streams_url},
}
_MEMORY: dict[str, Any] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {"default": _RING if _env.cache_urls else _MEMORY}


def _lab_ring(name: str, nodes: tuple[str, ...], arrangement: str = "rendezvous") -> dict[str, Any]:
    """A ring of its own on the same servers: its keys, its list of nodes, its arrangement."""
    options = {**_RING["OPTIONS"], "RING": name, "ARRANGEMENT": arrangement}
    return {**_RING, "LOCATION": list(nodes), "KEY_PREFIX": name, "OPTIONS": options}


if "lab" in _env.labels:
    CACHES |= {
        "lab-node": _lab_ring("lab-node", _env.cache_urls[:1]),
        "lab-ring": _lab_ring("lab-ring", _env.cache_urls),
        "lab-ring-modulo": _lab_ring("lab-ring-modulo", _env.cache_urls, "modulo"),
    }
