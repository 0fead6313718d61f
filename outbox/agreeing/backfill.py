"""Backfill: an owner announces its current state again, for consumers that missed events.

A service with backfills defines `backfill(*, after: str, limit: int) -> str` in its handlers.py.
The function announces the next `limit` aggregates after the key `after`, and returns the last key,
or '' at the end. The progress is stored, so an interrupted backfill resumes where it stopped.
"""

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

from django.apps import apps
from django.db import transaction

from ..consumer import Consumer
from ..consuming.inbox import Inbox
from ..errors import Unconfigured
from ..streams import WHOLE, Streams, order
from ..tables import Tables

PROGRESS = "backfill"  # the name of the state row, which contains the last announced key
BATCH = 100  # aggregates


class Announce(Protocol):
    """The type of a service's function `backfill`."""

    def __call__(self, *, after: str, limit: int) -> str: ...


def backfill_of(label: str) -> Announce:
    """Return the service's function `backfill`. Raises Unconfigured if there is none."""
    handlers = f"{apps.get_app_config(label).name}.handlers"
    try:
        return import_module(handlers).backfill  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as exc:
        raise Unconfigured(f"{label} supports no backfill: {handlers} has no `backfill`") from exc


def backfill(tables: Tables, announce: Announce, *, per_second: float) -> Iterator[str]:
    """Announce all aggregates, at most `per_second` a second. Yields the last key of each batch.

    Each batch commits together with its progress. The progress is deleted at the end.
    """
    states = tables.state._default_manager.using(tables.alias)
    kept = states.filter(name=PROGRESS).values_list("value", flat=True).first()
    after = kept or ""
    due = time.monotonic()
    while True:
        with transaction.atomic(using=tables.alias):
            after = announce(after=after, limit=BATCH)
            if not after:
                states.filter(name=PROGRESS).delete()
                return
            states.update_or_create(name=PROGRESS, defaults={"value": after})
        yield after
        due += BATCH / per_second
        time.sleep(max(0.0, due - time.monotonic()))


def adopt(consumer: Consumer, streams: Streams) -> dict[str, int]:
    """Move each position of a consumer that is below the floor up to the floor. Returns how many
    positions moved, for each producer. A backfill by the owner then announces the missed state."""
    moved = {}
    for producer in consumer.producers:
        cursor = streams.cursor(producer)
        inbox = Inbox(consumer.tables, consumer=consumer.name, producer=producer)
        inbox.open(range(streams.partitions))
        with transaction.atomic(using=consumer.tables.alias):
            moves = {
                partition: (position, f"{cursor.floor}-{WHOLE}")
                for partition, position in inbox.committed().items()
                if order(position) < (cursor.floor, WHOLE)
            }
            inbox.move(moves)
        moved[producer] = len(moves)
    return moved
