from django.apps import AppConfig


class PlacementConfig(AppConfig):
    """Listed first in INSTALLED_APPS, so that its `migrate` is the one that runs."""

    name = "config.placement"
    label = "placement"
    verbose_name = "placement"

    def ready(self) -> None:
        # Each registers itself: the system checks, and the signals of Celery.
        from config.placement import checks, ring_checks, task_headers  # noqa: F401
