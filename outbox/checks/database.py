"""Checks of the databases: sessions, sequences and partitions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, transaction

from .. import tables
from ..partitions import partition_count
from .options import can_use_streams


@register(Tags.database)
def transactions_are_read_committed(
    databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """E008: transactions must be READ COMMITTED, PostgreSQL's default. At another level, some of
    the transactions that change the same rows fail, and so do their requests."""
    messages: list[CheckMessage] = []
    for alias in dict.fromkeys(found.alias for found in tables_in(databases)):
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            (level,) = cursor.fetchone()
        if level != "read committed":
            messages.append(
                Error(
                    f"The transactions of {alias!r} are {level.upper()}.",
                    hint="Run `ALTER ROLE … SET default_transaction_isolation = 'read committed'`"
                    f" for the role of DATABASES[{alias!r}], and set no isolation_level.",
                    id="outbox.E008",
                )
            )
    return messages


@register(Tags.database)
def ids_follow_inserts(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E003: the id sequence must have CACHE 1. With a larger cache, one session can insert a lower
    id after another inserted a higher id, and an aggregate's events are published out of order."""
    messages: list[CheckMessage] = []
    for found in tables_in(databases):
        table = found.quoted(found.event)
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
    if not can_use_streams():
        return []  # E002 reports the setting
    differing: dict[str, list[str]] = defaultdict(list)
    for found in tables_in(databases):
        kept = partitions_of(found)
        if kept and int(kept) != partition_count():
            differing[kept].append(found.label)
    return [
        Error(
            f"{' and '.join(labels)} {'has' if len(labels) == 1 else 'have'} {kept} partitions and "
            f"OUTBOX_PARTITIONS is {partition_count()}.",
            hint=f"Set OUTBOX_PARTITIONS to {kept}: with another number, keys move to other "
            "partitions, and events of one key get out of order.",
            id="outbox.E004",
        )
        for kept, labels in differing.items()
    ]


def partitions_of(found: tables.Tables) -> str:
    """The number of partitions that the schema has; '' before the first event."""
    with found.connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [found.quoted(found.state)])
        if cursor.fetchone()[0] is None:
            return ""  # the tables don't exist yet
    kept = found.rows(found.state).filter(name=tables.PARTITIONS).first()
    return kept.value if kept else ""


def tables_in(databases: Sequence[str] | None) -> Iterator[tables.Tables]:
    """The tables of the services in these databases. E010 reports other engines."""
    for found in tables.every():
        if found.alias in (databases or ()) and found.connection.vendor == "postgresql":
            yield found
