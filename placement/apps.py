from django.apps import AppConfig


class PlacementConfig(AppConfig):
    """The app must be first in INSTALLED_APPS, so that its `migrate` replaces Django's."""

    name = "placement"
    label = "placement"
    verbose_name = "placement"

    def ready(self) -> None:
        # These imports register the system checks and the receivers of Celery's signals.
        from . import checks  # noqa: F401
        from .replicas import task_headers  # noqa: F401
        from .ring import checks as ring_checks  # noqa: F401
