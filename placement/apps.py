from django.apps import AppConfig


class PlacementConfig(AppConfig):
    """Must be listed first in INSTALLED_APPS, so that its `migrate` replaces Django's."""

    name = "placement"
    label = "placement"
    verbose_name = "placement"

    def ready(self) -> None:
        # Importing registers the system checks and the signals of Celery.
        from . import checks  # noqa: F401
        from .replicas import task_headers  # noqa: F401
        from .ring import checks as ring_checks  # noqa: F401
