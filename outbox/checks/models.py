"""Checks of the declared outbox tables. None of them uses a connection."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, models

from .. import tables
from ..indexes import MOST_BYTES

PACKAGE: Final = tables.__package__  # a project may rename the folder
WIDE: Final = ("BigAutoField", "BigIntegerField")


@register(Tags.models)
def tables_are_complete(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """E001: an app that has one of the outbox tables must have all of them."""
    messages: list[CheckMessage] = []
    for config in app_configs or apps.get_app_configs():
        found = tables.models_of(config)
        if found and (
            missing := [base for name, base in tables.BASES.items() if name not in found]
        ):
            names = ", ".join(base.__name__ for base in missing)
            messages.append(
                Error(
                    f"{config.label} has some outbox tables but no model of {names}.",
                    hint=f"Add the missing models to {config.name}.models; {PACKAGE}.models "
                    "lists them.",
                    id="outbox.E001",
                )
            )
    return messages


@register(Tags.models)
def databases_are_postgresql(**_: Any) -> list[CheckMessage]:
    """E010: snapshots and transaction ids are PostgreSQL's. E017 is its version."""
    aliases: dict[str, list[str]] = {}
    for found in tables.every():
        if found.connection.vendor != "postgresql":
            aliases.setdefault(found.alias, []).append(found.label)
    return [
        Error(
            f"The outbox of {' and '.join(labels)} is in {alias!r}, which isn't PostgreSQL: its "
            f"engine is {connections[alias].settings_dict['ENGINE']}.",
            hint=f"Set DATABASES[{alias!r}]['ENGINE'] to 'django.db.backends.postgresql', or route "
            "the app to a PostgreSQL database.",
            id="outbox.E010",
        )
        for alias, labels in aliases.items()
    ]


@register(Tags.models)
def indexes_are_inherited(**_: Any) -> list[CheckMessage]:
    """E011: a Meta that doesn't extend the base's Meta has none of its indexes and constraints.
    Then an event can be parked twice, and reading gets slower with each event."""
    return [
        Error(
            f"{model._meta.label} doesn't have {', '.join(lost)} of {base.__name__}.",
            hint=f"Let its Meta extend the base's: `class Meta({base.__name__}.Meta):`, and let "
            f"lists of its own include the inherited ones: `indexes = [*{base.__name__}.Meta"
            ".indexes, …]`. Then run makemigrations and migrate.",
            id="outbox.E011",
        )
        for base, model in _pairs()
        if (lost := [*_lost("index", base, model), *_lost("constraint", base, model)])
    ]


def _lost(kind: str, base: type[models.Model], model: type[models.Model]) -> Iterator[str]:
    attribute = "indexes" if kind == "index" else "constraints"
    declared = [_without_name(each) for each in getattr(model._meta, attribute)]
    for each in getattr(base._meta, attribute):
        if _without_name(each) not in declared:
            yield f"the {kind} on ({', '.join(each.fields)})"


def _without_name(declared: Any) -> tuple[Any, ...]:
    path, arguments, options = declared.deconstruct()
    return path, arguments, {key: value for key, value in options.items() if key != "name"}


@register(Tags.models)
def names_are_short(**_: Any) -> list[CheckMessage]:
    """E012: PostgreSQL cuts a name after 63 bytes, and two cut names can be equal."""
    messages: list[CheckMessage] = []
    for found in tables.every():
        names = [found.label, *_names_of(found)]
        if longest := max(
            (name for name in names if _bytes(name) > MOST_BYTES), key=_bytes, default=""
        ):
            most = MOST_BYTES - _bytes(longest) + _bytes(found.label)
            messages.append(
                Error(
                    f"The label {found.label} is too long: the name {longest} has "
                    f"{_bytes(longest)} bytes, and PostgreSQL cuts it after {MOST_BYTES}.",
                    hint=f"Set a label of at most {most} bytes in its AppConfig before its first "
                    "migration, or copy the base's indexes and constraints into each Meta under "
                    "shorter names.",
                    id="outbox.E012",
                )
            )
    return messages


def _names_of(found: tables.Tables) -> Iterator[str]:
    for name in tables.BASES:
        meta = getattr(found, name)._meta
        yield from (str(each.name) for each in (*meta.indexes, *meta.constraints))


def _bytes(name: str) -> int:
    return len(name.encode())


@register(Tags.models)
def ids_have_64_bits(**_: Any) -> list[CheckMessage]:
    """E013: a busy outbox uses up 32-bit ids."""
    return [
        Error(
            f"The ids of {model._meta.label} have 32 bits.",
            hint=f"Remove its own field {model._meta.pk.name!r}: {base.__name__} declares one with "
            "64 bits. Then run makemigrations and migrate.",
            id="outbox.E013",
        )
        for base, model in _pairs()
        if base._meta.pk.get_internal_type() in WIDE
        and model._meta.pk.get_internal_type() not in WIDE
    ]


def _pairs() -> Iterator[tuple[type[models.Model], type[models.Model]]]:
    """The abstract and the concrete model of each outbox table."""
    for found in tables.every():
        for name, base in tables.BASES.items():
            yield base, getattr(found, name)
