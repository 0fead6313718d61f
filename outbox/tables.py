"""Finds the concrete outbox tables of each installed service."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from django.apps import AppConfig, apps
from django.conf import settings
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from . import drivers
from .errors import DatabaseDiffers, Unconfigured
from .models import (
    AbstractOutboxEvent,
    AbstractParkedEvent,
    AbstractPosition,
    AbstractState,
    AbstractSubscription,
    AbstractTick,
)

PARTITIONS = "partitions"  # the name of the state row

Model = TypeVar("Model", bound=models.Model)

BASES: dict[str, type[models.Model]] = {
    "event": AbstractOutboxEvent,
    "tick": AbstractTick,
    "position": AbstractPosition,
    "parked": AbstractParkedEvent,
    "subscription": AbstractSubscription,
    "state": AbstractState,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """One service's concrete models and their database."""

    label: str
    event: type[AbstractOutboxEvent]
    tick: type[AbstractTick]
    position: type[AbstractPosition]
    parked: type[AbstractParkedEvent]
    subscription: type[AbstractSubscription]
    state: type[AbstractState]

    @property
    def alias(self) -> str:
        return router.db_for_write(self.event)

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.alias]

    def as_owner(self) -> AbstractContextManager[None]:
        """Rights to change the tables themselves, for rebuilds, restamps and erasures: from the
        context manager that the setting OUTBOX_AS_OWNER names, which gets the alias. Without the
        setting, the connection's role must have these rights."""
        path = getattr(settings, "OUTBOX_AS_OWNER", "")
        return import_string(path)(self.alias) if path else nullcontext()

    def rows(self, model: type[Model]) -> models.QuerySet[Model]:
        """A queryset of all rows of `model`, in the service's database."""
        return model._default_manager.using(self.alias)

    def quoted(self, model: type[models.Model]) -> str:
        """The name of the model's table, quoted for SQL."""
        return str(self.connection.ops.quote_name(model._meta.db_table))

    def check_partitions(self, partitions: int, connection: BaseDatabaseWrapper) -> None:
        """Raise DatabaseDiffers unless the schema has this number of partitions. The first call,
        of a writer or of the relay, stores the number."""
        state = self.quoted(self.state)
        with connection.cursor() as cursor:
            drivers.execute(
                cursor,
                f"INSERT INTO {state} (name, value) SELECT %(name)s, %(number)s "  # noqa: S608
                f"WHERE NOT EXISTS (SELECT FROM {state} WHERE name = %(name)s) "
                "ON CONFLICT DO NOTHING; "
                f"SELECT value FROM {state} WHERE name = %(name)s",
                {"name": PARTITIONS, "number": str(partitions)},
            )
            (found,) = cursor.fetchone()
        if found != str(partitions):
            raise DatabaseDiffers(
                f"{self.label} has {found} partitions and OUTBOX_PARTITIONS is {partitions}: keys "
                "would move to other partitions, and events of one key would get out of order; set "
                f"OUTBOX_PARTITIONS to {found}"
            )


def models_of(config: AppConfig) -> dict[str, type[models.Model]]:
    """The app's concrete outbox models. The keys are the names of the fields of `Tables`."""
    return {
        name: model
        for name, base in BASES.items()
        for model in config.get_models()
        if issubclass(model, base)
    }


def every() -> Iterator[Tables]:
    """The tables of every service that has all of them. outbox.E001 reports incomplete services."""
    for config in apps.get_app_configs():
        found = models_of(config)
        if len(found) == len(BASES):
            yield Tables(label=config.label, **found)  # type: ignore[arg-type]


def of(label: str) -> Tables:
    """The tables of one service. Raises Unconfigured, with the names that exist."""
    known = {tables.label: tables for tables in every()}
    if label not in known:
        raise Unconfigured(
            f"no service {label!r} with outbox tables; services: {', '.join(known) or 'none'}"
        )
    return known[label]
