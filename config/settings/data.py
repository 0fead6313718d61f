"""Databases, their router, and the cache.

`default` is the home of this process: accounts in the monolith, else its one service. The
monolith's other service has an alias of its own name.
"""

from typing import Any

from psycopg2.extensions import parse_dsn

from config.environ import environment

_env = environment()

# Where each service's tables live. Labels that aren't here (contrib) live in `default`.
PLACEMENT_HOMES = {
    service: service if position else "default" for position, service in enumerate(_env.services)
}
DATABASE_ROUTERS = ["config.placement.router.PlacementRouter"]


def _database(url: str) -> dict[str, Any]:
    """Django's form of a libpq address; several hosts and libpq's own options pass through."""
    parts = parse_dsn(url)
    named = {key: parts.pop(key, "") for key in ("dbname", "user", "password", "host", "port")}
    milliseconds = round(_env.statement_timeout_seconds * 1000)
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
            "options": f"-c statement_timeout={milliseconds}",
            **parts,
        },
    }


DATABASES = {
    PLACEMENT_HOMES[service]: _database(url) for service, url in _env.database_urls.items()
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Without a ring each process has its own memory, which nobody else can tell of a change; what must
# not be shown old isn't cached there.
_RING: dict[str, Any] = {
    "BACKEND": "config.placement.ring_cache.RingCache",
    "LOCATION": list(_env.cache_urls),
    "KEY_PREFIX": "mitosis",
    "OPTIONS": {"STORE": _env.streams_url},
}
_MEMORY: dict[str, Any] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {"default": _RING if _env.cache_urls else _MEMORY}
