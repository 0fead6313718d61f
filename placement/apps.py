from importlib.util import find_spec

from django.apps import AppConfig


class PlacementConfig(AppConfig):
    """Of several apps with a command of one name, Django runs that of the first app. Projects with
    several databases list this app first, so that its commands replace those of contrib apps."""

    name = __name__.rpartition(".")[0]  # a project may rename the folder
    label = "placement"
    verbose_name = "placement"

    def ready(self) -> None:
        # These imports register the system checks and the receivers of Celery's signals. A project
        # without Celery, or without the ring and its packages, doesn't need them.
        from . import checks, ring  # noqa: F401

        if find_spec("celery"):
            from .replicas import task_headers  # noqa: F401
        if ring.is_used():
            from .ring import checks as ring_checks  # noqa: F401
