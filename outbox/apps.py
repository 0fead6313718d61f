from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = __name__.rpartition(".")[0]  # the folder may have another name
    label = "outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        from . import checks, streams, tables  # noqa: F401

        for service in tables.every():  # before a server or a worker forks
            streams.nudger.share(service.label)
