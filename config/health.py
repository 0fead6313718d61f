"""What an orchestrator asks: is the process alive, and may it get traffic?"""

import logging

from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from outbox import streams
from placement.router import primaries, primary

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is asked, or a dead database would restart us all."""
    return JsonResponse({"status": "live"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 if every database answers and is migrated, else 503.

    Streams are only reported: writes go on without them, and events wait in the outbox.
    """
    databases = {alias: _database(alias) for alias in primaries()}
    fit = all(state == "ready" for state in databases.values())
    body = {
        "status": "ready" if fit else "unready",
        "databases": databases,
        "streams": "ready" if streams.connect().answers() else "no answer",
    }
    return JsonResponse(body, status=200 if fit else 503)


def _database(alias: str) -> str:
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return "ready" if _is_migrated(alias) else "migrations are missing"
    except DatabaseError:
        logger.warning("database %s does not answer", alias, exc_info=True)
        return "no answer"


_migrated: set[str] = set()


def _is_migrated(alias: str) -> bool:
    """Asked until true: a process doesn't lose its migrations while it lives."""
    if alias not in _migrated:
        executor = MigrationExecutor(connections[alias])
        targets = [node for node in executor.loader.graph.leaf_nodes() if primary(node[0]) == alias]
        if executor.migration_plan(targets):
            return False
        _migrated.add(alias)
    return True
