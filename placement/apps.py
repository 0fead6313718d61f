from django.apps import AppConfig


class PlacementConfig(AppConfig):
    """Listed first in INSTALLED_APPS, so that its `migrate` is the one that runs."""

    name = "placement"
    label = "placement"
    verbose_name = "placement"

    def ready(self) -> None:
        # Each registers itself: the system checks, and the signals of Celery.
        from . import checks  # noqa: F401
        from .replicas import task_headers  # noqa: F401
        from .ring import checks as ring_checks  # noqa: F401
