"""What to do when the database knows less than the streams, or other things.

After the failover to a standby that was behind, the streams may hold events of ticks, and even
of rows, that the database lost. After the restore of a dump, rows and ticks bear the
transaction ids of another server.
"""

import json
import logging
from collections.abc import Iterable

from django.apps import apps
from django.db import models, transaction

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..fields import Xid8Field
from ..streams import Entry, Streams, order
from ..tables import Tables
from .ticks import Ticks, clock_ms

log = logging.getLogger(__name__)

PHANTOMS = "phantoms"  # the state row that lists events whose rows are gone
KEPT_PHANTOMS = 1000
FIRST_XID = "3"  # PostgreSQL's first ordinary transaction id: seen by every snapshot


def resume(tables: Tables, ticks: Ticks, streams: Streams, *, ahead: int) -> None:
    """Go on after a failover that lost ticks which were published up to `ahead`.

    Rows that survived and were sent are passed over by the next tick, so no consumer gets them
    twice. Events whose rows are gone are kept by name: consumers applied what the owner
    doesn't remember, and their subjects have to be reconciled.
    """
    last = ticks.last()
    sent = _events_of(streams.after(tables.label, last))
    rows = {str(Envelope.decode(body).id): row for row, body in ticks.unseen()}
    phantoms = [sent[event] for event in sorted(sent.keys() - rows.keys())]
    if phantoms:
        log.error(
            "%s lost %d events that were published; reconcile their subjects: %s …",
            tables.label,
            len(phantoms),
            ", ".join(sorted({found.subject for found in phantoms})[:5]),
        )
        _keep(tables, phantoms)
    # Last: once the tick is there, nobody looks again.
    ticks.resume(above=ahead, skip=sorted(rows[event] for event in sent.keys() & rows.keys()))


def _events_of(entries: Iterable[Entry]) -> dict[str, Envelope]:
    found = {}
    for entry in entries:
        try:
            envelope = Envelope.decode(entry.body or b"")
        except MalformedEnvelope:
            continue  # a stranger's
        found[str(envelope.id)] = envelope
    return found


def _keep(tables: Tables, phantoms: list[Envelope]) -> None:
    states = tables.state._default_manager.using(tables.alias)
    with transaction.atomic(using=tables.alias):
        kept, _ = states.select_for_update().get_or_create(name=PHANTOMS, defaults={"value": "[]"})
        listed = {found["id"]: found for found in json.loads(kept.value)} | {
            str(found.id): {"id": str(found.id), "type": found.type, "subject": found.subject}
            for found in phantoms
        }
        kept.value = json.dumps(list(listed.values())[-KEPT_PHANTOMS:])
        kept.save(using=tables.alias, update_fields=["value"])


def restamp(tables: Tables, streams: Streams, ticks: Ticks) -> tuple[int, int]:
    """Make a restored schema publishable: how many rows wait again, and how many were dropped.

    Rows whose events are in the streams were sent, and go; so do those below the floor, which were
    sent and pruned since the dump was taken. The rest get the transaction ids of
    this server, and so do the rows of other tables that bear one (an event store's), so that a
    snapshot sees them with their event or not at all. With the streams gone as well nobody
    knows what was sent, and all is sent again.

    The base tick commits first: a transaction's own id can count as seen in its own snapshot.
    """
    held = streams.cursor(tables.label)
    old = tables.tick._default_manager.using(tables.alias).filter(pk__lte=held.floor)
    below = old.order_by("-pk").first()
    pruned = ticks.seen_by(below.snapshot) if below else set()
    ticks.first()
    ticks.resume(above=order(held.at)[0] if held.at else clock_ms())
    sent = _events_of(streams.after(tables.label, 0)).keys()
    events = tables.event._default_manager.using(tables.alias)
    with transaction.atomic(using=tables.alias):
        done, waiting = [], {}
        for row, xid, body in events.values_list("pk", "xid", "body").iterator():
            if row in pruned or str(Envelope.decode(body).id) in sent:
                done.append(row)
            else:
                waiting[row] = str(xid)
        events.filter(pk__in=done).delete()
        with tables.connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {_table(tables, tables.event)} SET xid = pg_current_xact_id()"  # noqa: S608
            )
        _stamp_others(tables, set(waiting.values()))
        # What the older ticks say of the rows is no longer true: the chain begins anew.
        tables.tick._default_manager.using(tables.alias).filter(pk__lt=ticks.last()).delete()
        # The relay keeps the new server's identifier when it next starts.
        tables.state._default_manager.using(tables.alias).filter(name="system").delete()
    return len(waiting), len(done)


def _stamp_others(tables: Tables, waiting: set[str]) -> None:
    for model in apps.get_app_config(tables.label).get_models():
        bears = any(isinstance(field, Xid8Field) for field in model._meta.get_fields())
        if not bears or model is tables.event:
            continue
        table = _table(tables, model)
        with tables.connection.cursor() as cursor:
            # An append-only table has it revoked, also from its owner.
            cursor.execute(f"GRANT UPDATE (xid) ON {table} TO CURRENT_USER")
            cursor.execute(
                f"UPDATE {table} SET xid = CASE WHEN xid = ANY(%s::text[]::xid8[]) "  # noqa: S608
                "THEN pg_current_xact_id() ELSE %s::xid8 END",
                [list(waiting), FIRST_XID],
            )
            cursor.execute(f"REVOKE UPDATE (xid) ON {table} FROM CURRENT_USER")


def _table(tables: Tables, model: type[models.Model]) -> str:
    return str(tables.connection.ops.quote_name(model._meta.db_table))
