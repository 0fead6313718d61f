"""Liveness and readiness probes."""

import logging
from pathlib import Path

from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.environ import environment
from config.keys import key_set
from outbox import streams
from outbox.checks.database import partitions_are_kept
from placement.router import primaries, primary

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Always return 200, even if a database is down: a restart of this process wouldn't help."""
    return JsonResponse({"status": "live"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Return 200 if every database is reachable, migrated and of these settings, and the keys of
    accounts are known, else 503. Return 503 too before a stop, while this process still serves
    (docker/entrypoint.py drain).

    The state of the streams doesn't change the status: without streams, writes continue and events
    wait in the outbox.
    """
    if (drain_file := environment().drain_file) and Path(drain_file).exists():
        return JsonResponse({"status": "draining"}, status=503)
    databases = {alias: _database(alias) for alias in primaries()}
    keys = key_set().state()
    is_ready = all(state == "ready" for state in databases.values()) and keys != "no answer"
    body = {
        "status": "ready" if is_ready else "unready",
        "databases": databases,
        "keys": keys,
        "streams": "ready" if streams.connect().is_reachable() else "no answer",
    }
    return JsonResponse(body, status=200 if is_ready else 503)


def _database(alias: str) -> str:
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _is_migrated(alias):
            return "migrations are missing"
        differs = partitions_are_kept(databases=[alias])
        return "the number of partitions differs" if differs else "ready"
    except DatabaseError:
        logger.warning("database %s does not answer", alias, exc_info=True)
        return "no answer"


_migrated: set[str] = set()


def _is_migrated(alias: str) -> bool:
    """Whether all migrations are applied. True is cached, so a later reversal isn't noticed."""
    if alias not in _migrated:
        executor = MigrationExecutor(connections[alias])
        targets = [node for node in executor.loader.graph.leaf_nodes() if primary(node[0]) == alias]
        if executor.migration_plan(targets):
            return False
        _migrated.add(alias)
    return True
