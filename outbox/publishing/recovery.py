"""Recovery after a failover to a standby that was behind. The streams then contain events whose
ticks, or even rows, the database has lost."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from django.db import models, transaction

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..streams import Entry, Streams, order
from ..tables import Tables
from .ticks import Ticks

log = logging.getLogger(__name__)

PHANTOMS = "phantoms"  # the state row that lists events whose rows are lost
KEPT_PHANTOMS = 1000
PAGE_ENTRIES = 1000


def resume(tables: Tables, ticks: Ticks, streams: Streams, *, ahead: int) -> None:
    """Continue after a failover that lost ticks. `ahead` is the last tick that was published.

    The next tick skips surviving rows that were sent, so no consumer receives them twice. Events
    whose rows are lost are logged and saved as `phantoms`. Consumers applied these events, but the
    owner no longer has them, so you have to reconcile their subjects.
    """
    skip: set[int] = set()
    phantoms: list[Envelope] = []
    for page in pages(streams.entries_after(tables.label, ticks.last())):
        rows = rows_of(tables, page)
        skip |= rows.keys()
        phantoms += _decoded(entry for entry in page if rows.get(_row(entry)) != entry.body)
    if phantoms:
        log.error(
            "%s lost %d events that were published; reconcile their subjects: %s …",
            tables.label,
            len(phantoms),
            ", ".join(sorted({found.subject for found in phantoms})[:5]),
        )
        _save_phantoms(tables, phantoms)
    # The tick is created last: once it exists, no relay runs this recovery again.
    ticks.resume(above=ahead, skip=sorted(skip))


def pages(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    entries = iter(entries)
    while page := list(islice(entries, PAGE_ENTRIES)):
        yield page


def rows_of(tables: Tables, page: Sequence[Entry]) -> dict[int, bytes]:
    """The rows from which these entries were made, with their bodies. The bodies are compared,
    because after a failover or a restore another row can have the same id."""
    sent = {(_row(entry), entry.body) for entry in page}
    ids = [row for row, _ in sent if row <= models.BigIntegerField.MAX_BIGINT]
    kept = tables.rows(tables.event).filter(pk__in=ids).values_list("pk", "body")
    return {row: body.encode() for row, body in kept if (row, body.encode()) in sent}


def _row(entry: Entry) -> int:
    return order(entry.id)[1]


def _decoded(entries: Iterable[Entry]) -> Iterator[Envelope]:
    for entry in entries:
        try:
            yield Envelope.decode(entry.body or b"")
        except MalformedEnvelope:
            continue  # a foreign entry


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
