"""Deletes one subject's older events from the outbox and the streams.

Your code calls `purge`; the outbox never does. The call is safe once every subscriber has confirmed
a later row of the subject: no consumer reads older rows again. Ticks don't change. Entry ids and
positions contain no counts, so the other entries keep their ids (docs/outbox.md, "Erasing a
subject").
"""

from django.db import transaction

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..partitions import partition_of
from ..streams import Entry, Streams, order
from ..tables import Tables
from .retention import save_confirmations

BATCH_ENTRIES = 1000
RELAY = "the relay"


def missing_confirmations(tables: Tables, streams: Streams, *, row: int) -> tuple[str, ...]:
    """The names of the subscribers that haven't confirmed this outbox row, or RELAY if the relay
    hasn't published the row. Empty if all subscribers have confirmed it, or if it was pruned."""
    save_confirmations(tables, streams.confirmations(tables.label))
    if not tables.rows(tables.event).filter(pk=row).exists():
        return ()
    tick = _tick_of(tables, row)
    if tick is None or streams.cursor(tables.label).complete < tick:
        return (RELAY,)
    subscribers = tables.rows(tables.subscription).order_by("name")
    confirmed = dict(subscribers.values_list("name", "confirmed"))
    if not confirmed:
        return ("any subscriber",)
    return tuple(name for name, upto in confirmed.items() if upto is None or upto < tick)


def purge(tables: Tables, streams: Streams, *, subject: str, before: int) -> None:
    """Delete the rows of `subject` with an id below `before`, then their entries.

    Rows are deleted first, so a relay that sends all rows again doesn't send them. A relay that had
    read the rows can still add entries, so `purge` reads the stream until it finds no such entry.
    """
    partition = partition_of(subject, partitions=streams.partitions)
    _delete_rows(tables, partition, subject, before)
    while _delete_entries(tables.label, streams, partition, subject, before):
        pass


def _tick_of(tables: Tables, row: int) -> int | None:
    """The first tick that sees the row."""
    tick, event = tables.quoted(tables.tick), tables.quoted(tables.event)
    with tables.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT min(t.id) FROM {tick} t, {event} e "  # noqa: S608
            "WHERE e.id = %s AND pg_visible_in_snapshot(e.xid, t.snapshot)",
            [row],
        )
        found: int | None = cursor.fetchone()[0]
    return found


def _delete_rows(tables: Tables, partition: int, subject: str, before: int) -> None:
    event = tables.quoted(tables.event)
    with transaction.atomic(using=tables.alias), tables.connection.cursor() as cursor:
        # Subjects have no index, so this statement reads the whole table, without a time limit. It
        # parses only bodies that contain the subject.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            f"DELETE FROM {event} WHERE partition = %(partition)s AND id < %(before)s "  # noqa: S608
            "AND CASE WHEN strpos(body, %(subject)s) > 0 "
            "THEN body::jsonb ->> 'subject' = %(subject)s ELSE false END",
            {"partition": partition, "before": before, "subject": subject},
        )


def _delete_entries(label: str, streams: Streams, partition: int, subject: str, before: int) -> int:
    deleted, found = 0, []
    for entry in streams.entries_of(label, partition):
        if order(entry.id)[1] < before and _is_about(entry, subject):
            found.append(entry.id)
        if len(found) == BATCH_ENTRIES:
            deleted += streams.delete(label, partition, found)
            found = []
    return deleted + streams.delete(label, partition, found)


def _is_about(entry: Entry, subject: str) -> bool:
    if entry.body is None or subject.encode() not in entry.body:
        return False
    try:
        return Envelope.decode(entry.body).subject == subject
    except MalformedEnvelope:
        return False
