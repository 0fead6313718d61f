"""System checks of the mechanism. E003 and E004 look at the database: `check --database …`."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from . import consumer as consuming
from . import tables
from .partitions import partition_count


@register(Tags.models)
def tables_are_complete(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """E001: an app with some of the outbox tables has all of them."""
    messages: list[CheckMessage] = []
    for config in app_configs or apps.get_app_configs():
        found = tables.found_in(config)
        if found and (
            missing := [base for name, base in tables.BASES.items() if name not in found]
        ):
            messages.append(
                Error(
                    f"{config.label} has outbox tables but no concrete "
                    f"{', '.join(base.__name__ for base in missing)}.",
                    hint="Add them to its models.py; see outbox.models.",
                    id="outbox.E001",
                )
            )
    return messages


@register()
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E002: there is a stream server and a sensible number of partitions."""
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
                hint="Choose a number from 1 to 256, once; 16 is a good one.",
                id="outbox.E002",
            )
        )
    return messages


@register()
def consumers_are_complete(**_: Any) -> list[CheckMessage]:
    """E005: every consumer lives in a service that has tables for its positions."""
    known = {found.label for found in tables.every()}
    return [
        Error(
            f"The consumer {consumer.name} has no place for its positions: "
            f"{consumer.label} has no outbox tables.",
            id="outbox.E005",
        )
        for consumer in consuming.every()
        if consumer.label not in known
    ]


@register(Tags.database)
def ids_follow_inserts(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E003: no session keeps outbox ids in advance. With CACHE 20 a session writes old ids
    after others' newer ones, and one aggregate's events leave in the wrong order."""
    messages: list[CheckMessage] = []
    for found in tables.every():
        if found.alias not in (databases or ()):
            continue
        table = found.event._meta.db_table
        with connections[found.alias].cursor() as cursor:
            cursor.execute(
                "SELECT seqcache FROM pg_sequence "
                "WHERE seqrelid = pg_get_serial_sequence(to_regclass(%s)::text, 'id')::regclass",
                [table],
            )
            row = cursor.fetchone()
        if row and row[0] != 1:
            messages.append(
                Error(
                    f"The ids of {table} are handed out {row[0]} at a time.",
                    hint=f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 1;",
                    id="outbox.E003",
                )
            )
    return messages


@register(Tags.database)
def partitions_are_kept(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E004: the number of partitions is the one that the service began with."""
    messages: list[CheckMessage] = []
    for found in tables.every():
        if found.alias not in (databases or ()):
            continue
        table = found.state._meta.db_table
        with connections[found.alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [table])
            if cursor.fetchone()[0] is None:
                continue  # not migrated yet
        kept = found.state._default_manager.using(found.alias).filter(name="partitions").first()
        if kept and int(kept.value) != partition_count():
            messages.append(
                Error(
                    f"{found.label} has {kept.value} partitions and OUTBOX_PARTITIONS is "
                    f"{partition_count()}.",
                    hint="A key would change its partition and lose its order: keep the number.",
                    id="outbox.E004",
                )
            )
    return messages
