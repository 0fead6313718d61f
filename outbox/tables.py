"""Finds the concrete outbox tables of each installed service."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import AppConfig, apps
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from .errors import Unconfigured
from .models import (
    AbstractOutboxEvent,
    AbstractParkedEvent,
    AbstractPosition,
    AbstractState,
    AbstractSubscription,
    AbstractTick,
)

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
    """One service's concrete models, and where they live."""

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


def found_in(config: AppConfig) -> dict[str, type[models.Model]]:
    """The app's concrete outbox models, by the field of `Tables` that each one fills."""
    return {
        name: model
        for name, base in BASES.items()
        for model in config.get_models()
        if issubclass(model, base)
    }


def every() -> Iterator[Tables]:
    """The tables of every installed service that has all of them (a check names the others)."""
    for config in apps.get_app_configs():
        models_found = found_in(config)
        if len(models_found) == len(BASES):
            yield Tables(label=config.label, **models_found)  # type: ignore[arg-type]


def of(label: str) -> Tables:
    """The tables of one service. Raises Unconfigured, naming those that there are."""
    known = {tables.label: tables for tables in every()}
    if label not in known:
        raise Unconfigured(
            f"no service {label!r} with outbox tables; there are: {', '.join(known) or 'none'}"
        )
    return known[label]
