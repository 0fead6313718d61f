"""What every page says about the process that answers. A context processor of the settings."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def answering(request: HttpRequest) -> dict[str, Any]:
    """`shape` is "monolith" or "service"; `services` are the ones installed in this process, and
    `sites` are the addresses of the others."""
    services = settings.SERVICES
    return {
        "shape": "monolith" if len(services) > 1 else "service",
        "services": services,
        "sites": settings.OUTBOX_SITES,
    }
