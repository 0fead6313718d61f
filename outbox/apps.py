from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = __name__.rpartition(".")[0]  # a project may rename the folder; its name is the label
    verbose_name = "Outbox"

    def ready(self) -> None:
        from . import checks, tables  # noqa: F401
        from .streams.client import nudger

        for service in tables.every():  # must run before a server or a worker forks
            nudger.share(service.label)
