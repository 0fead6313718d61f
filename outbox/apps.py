from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class OutboxConfig(AppConfig):
    name = __name__.rpartition(".")[0]  # a project may rename the folder; its name is the label
    verbose_name = "Outbox"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # Here, because Django's error at the first model names no package to install.
        if not any(map(find_spec, ("psycopg2", "psycopg"))):
            raise ImproperlyConfigured(
                f"{self.name} needs a driver of PostgreSQL: install psycopg2-binary or "
                "psycopg[binary]"
            )

    def ready(self) -> None:
        from . import checks, tables  # noqa: F401
        from .streams.client import nudger

        for service in tables.every():  # must run before a server or a worker forks
            nudger.share(service.label)
