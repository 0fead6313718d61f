"""Taking one subject's older events out of the outbox and the streams, for good.

The mechanism never deletes single rows by itself. It may be done, once every subscriber has
confirmed a later row of the subject: then nobody reads the older ones again. Ticks aren't touched,
and neither entry ids nor positions count anything, so what is left keeps its place
(docs/outbox.md, "Erasing a subject").
"""

from dataclasses import dataclass

from django.db import transaction

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..partitions import partition_of
from ..streams import Entry, Streams, order
from ..tables import Tables
from .retention import note_confirmations

BATCH_ENTRIES = 1000
RELAY = "the relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How much was taken out."""

    rows: int
    entries: int


def lacking(tables: Tables, streams: Streams, *, row: int) -> tuple[str, ...]:
    """Who hasn't confirmed an outbox row yet: subscribers by name, or the relay, which hasn't
    published it. Empty when all have; a row that was pruned is one that all have."""
    note_confirmations(tables, streams.confirmations(tables.label))
    if not tables.event._default_manager.using(tables.alias).filter(pk=row).exists():
        return ()
    tick = _tick_of(tables, row)
    if tick is None or streams.cursor(tables.label).complete < tick:
        return (RELAY,)
    subscribers = tables.subscription._default_manager.using(tables.alias)
    confirmed = dict(subscribers.order_by("name").values_list("name", "confirmed"))
    if not confirmed:
        return ("any subscriber",)
    return tuple(name for name, upto in confirmed.items() if upto is None or upto < tick)


def purge(tables: Tables, streams: Streams, *, subject: str, before: int) -> Purged:
    """Delete the rows of `subject` with an id below `before`, then their entries.

    Rows first: a relay that must send everything again finds none to send. What it had read
    before is found by a second look at the stream.
    """
    partition = partition_of(subject, partitions=streams.partitions)
    rows = _delete_rows(tables, partition, subject, before)
    entries = 0
    while gone := _delete_entries(tables.label, streams, partition, subject, before):
        entries += gone
    return Purged(rows=rows, entries=entries)


def _tick_of(tables: Tables, row: int) -> int | None:
    """The first tick that sees the row."""
    quote = tables.connection.ops.quote_name
    tick, event = quote(tables.tick._meta.db_table), quote(tables.event._meta.db_table)
    with tables.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT min(t.id) FROM {tick} t, {event} e "  # noqa: S608
            "WHERE e.id = %s AND pg_visible_in_snapshot(e.xid, t.snapshot)",
            [row],
        )
        found: int | None = cursor.fetchone()[0]
    return found


def _delete_rows(tables: Tables, partition: int, subject: str, before: int) -> int:
    event = tables.connection.ops.quote_name(tables.event._meta.db_table)
    with transaction.atomic(using=tables.alias), tables.connection.cursor() as cursor:
        # No index knows subjects: one walk over the table, however large it is. The texts that
        # can't be of this subject aren't parsed.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            f"DELETE FROM {event} WHERE partition = %(partition)s AND id < %(before)s "  # noqa: S608
            "AND CASE WHEN strpos(body, %(subject)s) > 0 "
            "THEN body::jsonb ->> 'subject' = %(subject)s ELSE false END",
            {"partition": partition, "before": before, "subject": subject},
        )
        return int(cursor.rowcount)


def _delete_entries(label: str, streams: Streams, partition: int, subject: str, before: int) -> int:
    gone, found = 0, []
    for entry in streams.entries_of(label, partition):
        if order(entry.id)[1] < before and _is_about(entry, subject):
            found.append(entry.id)
        if len(found) == BATCH_ENTRIES:
            gone += streams.delete(label, partition, found)
            found = []
    return gone + streams.delete(label, partition, found)


def _is_about(entry: Entry, subject: str) -> bool:
    if entry.body is None or subject.encode() not in entry.body:
        return False
    try:
        return Envelope.decode(entry.body).subject == subject
    except MalformedEnvelope:
        return False
