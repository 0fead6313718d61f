"""Recovery after the database lost data, or was restored from a dump of another server.

After a failover to a standby that was behind, the streams can contain events whose ticks, or even
rows, the database has lost. After the restore of a dump, rows and ticks contain transaction ids of
another server.
"""

import json
import logging
from collections.abc import Iterable

from django.apps import apps
from django.db import transaction

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..fields import Xid8Field
from ..streams import Entry, Streams, order
from ..tables import Tables
from .ticks import Ticks, clock_ms

log = logging.getLogger(__name__)

PHANTOMS = "phantoms"  # the state row that lists events whose rows are lost
KEPT_PHANTOMS = 1000
FIRST_XID = "3"  # PostgreSQL's first ordinary transaction id: every snapshot sees it


def resume(tables: Tables, ticks: Ticks, streams: Streams, *, ahead: int) -> None:
    """Continue after a failover that lost ticks. `ahead` is the last tick that was published.

    The next tick skips surviving rows that were sent, so no consumer receives them twice. Events
    whose rows are lost are logged and saved as `phantoms`. Consumers applied these events, but the
    owner no longer has them, so you have to reconcile their subjects.
    """
    last = ticks.last()
    sent = _events_of(streams.entries_after(tables.label, last))
    rows = {str(Envelope.decode(body).id): row for row, body in ticks.unseen()}
    phantoms = [sent[event] for event in sorted(sent.keys() - rows.keys())]
    if phantoms:
        log.error(
            "%s lost %d events that were published; reconcile their subjects: %s …",
            tables.label,
            len(phantoms),
            ", ".join(sorted({found.subject for found in phantoms})[:5]),
        )
        _save_phantoms(tables, phantoms)
    # The tick is created last: once it exists, no relay runs this recovery again.
    ticks.resume(above=ahead, skip=sorted(rows[event] for event in sent.keys() & rows.keys()))


def _events_of(entries: Iterable[Entry]) -> dict[str, Envelope]:
    events = {}
    for entry in entries:
        try:
            envelope = Envelope.decode(entry.body or b"")
        except MalformedEnvelope:
            continue  # a foreign entry
        events[str(envelope.id)] = envelope
    return events


def _save_phantoms(tables: Tables, phantoms: list[Envelope]) -> None:
    with transaction.atomic(using=tables.alias):
        states = tables.rows(tables.state)
        kept, _ = states.select_for_update().get_or_create(name=PHANTOMS, defaults={"value": "[]"})
        listed = {found["id"]: found for found in json.loads(kept.value)} | {
            str(found.id): {"id": str(found.id), "type": found.type, "subject": found.subject}
            for found in phantoms
        }
        kept.value = json.dumps(list(listed.values())[-KEPT_PHANTOMS:])
        kept.save(using=tables.alias, update_fields=["value"])


def restamp(tables: Tables, streams: Streams, ticks: Ticks) -> tuple[int, int]:
    """Prepare a restored schema for the relay. Returns how many rows wait to be published and how
    many were deleted.

    Rows whose events are in the streams were sent, so they are deleted. Rows below the floor were
    sent and pruned after the dump was taken, so they are deleted too. The other rows get a
    transaction id of this server. Rows of other tables (such as an event store) with the same old
    ids get this id too, so that a snapshot sees all rows of a transaction or none. If the streams
    are lost, nothing shows which rows were sent, so all rows are sent again.

    The new tick is committed before the rows change: the snapshot of a transaction can see the
    transaction's own id, and the relay never sends rows that the first tick sees.
    """
    published = streams.cursor(tables.label)
    floor = tables.rows(tables.tick).filter(pk__lte=published.floor).order_by("-pk").first()
    pruned = ticks.seen_by(floor.snapshot) if floor else set()
    ticks.first()
    ticks.resume(above=order(published.at)[0] if published.at else clock_ms())
    sent = _events_of(streams.entries_after(tables.label, 0)).keys()
    events = tables.rows(tables.event)
    with transaction.atomic(using=tables.alias):
        done, waiting_xids = [], []
        for row, xid, body in events.values_list("pk", "xid", "body").iterator():
            if row in pruned or str(Envelope.decode(body).id) in sent:
                done.append(row)
            else:
                waiting_xids.append(str(xid))
        events.filter(pk__in=done).delete()
        with tables.connection.cursor() as cursor:
            cursor.execute(f"UPDATE {tables.quoted(tables.event)} SET xid = pg_current_xact_id()")  # noqa: S608
        _restamp_other_tables(tables, set(waiting_xids))
        # Snapshots of older ticks don't match the new ids, so the chain starts with the new tick.
        tables.rows(tables.tick).filter(pk__lt=ticks.last()).delete()
        # The relay stores the new server's identifier at its next start.
        tables.rows(tables.state).filter(name="system").delete()
    return len(waiting_xids), len(done)


def _restamp_other_tables(tables: Tables, waiting_xids: set[str]) -> None:
    """In other tables, replace these xids by the current one, and all other xids by FIRST_XID."""
    for model in apps.get_app_config(tables.label).get_models():
        has_xid = any(isinstance(field, Xid8Field) for field in model._meta.get_fields())
        if not has_xid or model is tables.event:
            continue
        table = tables.quoted(model)
        with tables.connection.cursor() as cursor:
            # On an append-only table, even the owner doesn't have this right.
            cursor.execute(f"GRANT UPDATE (xid) ON {table} TO CURRENT_USER")
            cursor.execute(
                f"UPDATE {table} SET xid = CASE WHEN xid = ANY(%s::text[]::xid8[]) "  # noqa: S608
                "THEN pg_current_xact_id() ELSE %s::xid8 END",
                [list(waiting_xids), FIRST_XID],
            )
            cursor.execute(f"REVOKE UPDATE (xid) ON {table} FROM CURRENT_USER")
