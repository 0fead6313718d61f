from typing import Any

from django.apps import apps
from django.contrib.staticfiles.management.commands import runserver

from ..unapplied import ChecksPrimaries


class Command(ChecksPrimaries, runserver.Command):
    """Django's runserver, with the check of each app's primary."""

    def get_handler(self, *args: Any, **options: Any) -> Any:
        serves_files = apps.is_installed("django.contrib.staticfiles")
        options["use_static_handler"] = options["use_static_handler"] and serves_files
        return super().get_handler(*args, **options)
