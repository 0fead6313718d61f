"""System checks of the outbox. Only `check --database …` runs E003, E004 and E008."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections, transaction

from . import consumer as consumers
from . import tables
from .consuming.idleness import handler_idle_seconds
from .partitions import partition_count
from .publishing.retention import retention_seconds
from .streams.client import is_under_test


@register(Tags.models)
def tables_are_complete(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """E001: an app that has one of the outbox tables must have all of them."""
    messages: list[CheckMessage] = []
    for config in app_configs or apps.get_app_configs():
        found = tables.models_of(config)
        if found and (
            missing := [base for name, base in tables.BASES.items() if name not in found]
        ):
            messages.append(
                Error(
                    f"{config.label} has some outbox tables but no model of "
                    f"{', '.join(base.__name__ for base in missing)}.",
                    hint="Add the missing models to its models.py; see outbox/models.py.",
                    id="outbox.E001",
                )
            )
    return messages


@register()
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_STREAMS_URL must be set, and OUTBOX_PARTITIONS must be from 1 to 256."""
    messages: list[CheckMessage] = []
    if not getattr(settings, "OUTBOX_STREAMS_URL", None):
        messages.append(
            Error(
                "OUTBOX_STREAMS_URL is not set.",
                hint="Set it to the stream server, e.g. redis://localhost:6379/0.",
                id="outbox.E002",
            )
        )
    if not 1 <= partition_count() <= 256:
        messages.append(
            Error(
                f"OUTBOX_PARTITIONS is {partition_count()}.",
                hint="Set it to a number from 1 to 256, e.g. 16, and never change it.",
                id="outbox.E002",
            )
        )
    return messages


@register()
def streams_are_on_a_server(**_: Any) -> list[CheckMessage]:
    """W010: the address `memory://` is for tests. Commands and tasks refuse it (`connect`)."""
    url = getattr(settings, "OUTBOX_STREAMS_URL", None)
    if not str(url).startswith("memory:") or is_under_test():
        return []
    return [
        CheckWarning(
            f"OUTBOX_STREAMS_URL is {url}, so no relay and no consumer starts.",
            hint="Use it in the settings of tests only; elsewhere set the address of the stream "
            "server, e.g. redis://localhost:6379/0.",
            id="outbox.W010",
        )
    ]


@register()
def durations_are_sound(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_HANDLER_IDLE_SECONDS must be from 1 to 3600, because a frozen process locks its
    positions for this time. OUTBOX_RETENTION_SECONDS must not be negative."""
    messages: list[CheckMessage] = []
    for name, read, least, most, good in (
        ("OUTBOX_HANDLER_IDLE_SECONDS", handler_idle_seconds, 1, 3600, "1 to 3600 seconds, e.g. 5"),
        ("OUTBOX_RETENTION_SECONDS", retention_seconds, 0, inf, "0 seconds or more, e.g. 604800"),
    ):
        try:
            valid = least <= read() <= most
        except (TypeError, ValueError):
            valid = False
        if not valid:
            messages.append(
                Error(
                    f"{name} is {getattr(settings, name)!r}.",
                    hint=f"Set it to {good}.",
                    id="outbox.E002",
                )
            )
    return messages


@register()
def consumers_are_complete(**_: Any) -> list[CheckMessage]:
    """E005: the service of every consumer must have outbox tables."""
    known = {found.label for found in tables.every()}
    return [
        Error(
            f"The consumer {consumer.name} can't save its positions: "
            f"{consumer.label} has no outbox tables.",
            hint="Add them to its models.py; see outbox/models.py.",
            id="outbox.E005",
        )
        for consumer in consumers.every()
        if consumer.label not in known
    ]


@register()
def consumers_have_different_names(**_: Any) -> list[CheckMessage]:
    """E006: two services in one deployment can't have consumers with the same name."""
    owners = defaultdict(list)
    for consumer in consumers.every():
        owners[consumer.name].append(consumer.label)
    return [
        Error(
            f"{' and '.join(labels)} have a consumer with the same name, {name}.",
            hint="Rename one of them, also in its positions and parked events: commands find a "
            "consumer by its name.",
            id="outbox.E006",
        )
        for name, labels in owners.items()
        if len(labels) > 1
    ]


@register()
def producers_are_known(**_: Any) -> list[CheckMessage]:
    """E007: the first segment of a consumed type must be the label of an app with outbox tables, or
    listed in OUTBOX_PRODUCERS. Otherwise the consumer would read a stream that stays empty."""
    known = {found.label for found in tables.every()} | set(
        getattr(settings, "OUTBOX_PRODUCERS", ())
    )
    return [
        Error(
            f"The consumer {consumer.name} of {consumer.label} reads the events of {producer!r}, "
            "which is no service of this deployment.",
            hint="Correct the first segment of its event types, or add the label to the setting "
            "OUTBOX_PRODUCERS if another deployment or project publishes them.",
            id="outbox.E007",
        )
        for consumer in consumers.every()
        for producer in consumer.producers
        if producer not in known
    ]


@register(Tags.database)
def transactions_are_read_committed(
    databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """E008: transactions must be READ COMMITTED, PostgreSQL's default. At another level, some of
    the transactions that change the same rows fail, and so do their requests."""
    messages: list[CheckMessage] = []
    for alias in dict.fromkeys(found.alias for found in _tables_in(databases)):
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            (level,) = cursor.fetchone()
        if level != "read committed":
            messages.append(
                Error(
                    f"The transactions of {alias!r} are {level.upper()}.",
                    hint=f"In DATABASES[{alias!r}]['OPTIONS'], set 'options' to "
                    r"'-c default_transaction_isolation=read\ committed', and no isolation_level.",
                    id="outbox.E008",
                )
            )
    return messages


@register(Tags.database)
def ids_follow_inserts(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E003: the id sequence must have CACHE 1. With a larger cache, one session can insert a lower
    id after another inserted a higher id, and an aggregate's events are published out of order."""
    messages: list[CheckMessage] = []
    for found in _tables_in(databases):
        table = found.event._meta.db_table
        with found.connection.cursor() as cursor:
            cursor.execute(
                "SELECT seqcache FROM pg_sequence "
                "WHERE seqrelid = pg_get_serial_sequence(to_regclass(%s)::text, 'id')::regclass",
                [table],
            )
            row = cursor.fetchone()
        if row and row[0] != 1:
            messages.append(
                Error(
                    f"Each session reserves {row[0]} ids of {table} at a time.",
                    hint=f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 1;",
                    id="outbox.E003",
                )
            )
    return messages


@register(Tags.database)
def partitions_are_kept(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E004: OUTBOX_PARTITIONS must have the value that it had at the first event."""
    messages: list[CheckMessage] = []
    for found in _tables_in(databases):
        with found.connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [found.state._meta.db_table])
            if cursor.fetchone()[0] is None:
                continue  # the tables don't exist yet
        kept = found.rows(found.state).filter(name=tables.PARTITIONS).first()
        if kept and int(kept.value) != partition_count():
            messages.append(
                Error(
                    f"{found.label} has {kept.value} partitions and OUTBOX_PARTITIONS is "
                    f"{partition_count()}.",
                    hint=f"Set OUTBOX_PARTITIONS to {kept.value}: with another number, keys move "
                    "to other partitions, and events of one key get out of order.",
                    id="outbox.E004",
                )
            )
    return messages


def _tables_in(databases: Sequence[str] | None) -> Iterator[tables.Tables]:
    return (found for found in tables.every() if found.alias in (databases or ()))
