"""Backfill: an owner tells its current state once more, for consumers that lack events.

A service that can be asked has `reannounce(*, after: str, limit: int) -> str` in its
handlers.py: it records the state of the next aggregates after a key and returns the last key,
'' at the end. Progress is kept, so a backfill that was stopped goes on where it was.
"""

import time
from collections.abc import Callable, Iterator
from importlib import import_module

from django.apps import apps
from django.db import transaction

from ..consumer import Consumer
from ..consuming.inbox import Inbox
from ..errors import Unconfigured
from ..streams import WHOLE, Streams, order
from ..tables import Tables

Reannounce = Callable[..., str]
PROGRESS = "backfill"  # the state row: the last key that was told
BATCH = 100


def reannounce_of(label: str) -> Reannounce:
    """The service's own way to tell its state. Raises Unconfigured if it has none."""
    handlers = f"{apps.get_app_config(label).name}.handlers"
    try:
        return import_module(handlers).reannounce  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as exc:
        raise Unconfigured(f"{label} can't tell its state: no reannounce in {handlers}") from exc


def backfill(tables: Tables, reannounce: Reannounce, *, per_second: float) -> Iterator[str]:
    """Tell everything, at most so many aggregates a second; yields the last key of each batch.

    Each batch and its progress commit together; the end forgets the progress.
    """
    states = tables.state._default_manager.using(tables.alias)
    kept = states.filter(name=PROGRESS).values_list("value", flat=True).first()
    after = kept or ""
    due = time.monotonic()
    while True:
        with transaction.atomic(using=tables.alias):
            after = reannounce(after=after, limit=BATCH)
            if not after:
                states.filter(name=PROGRESS).delete()
                return
            states.update_or_create(name=PROGRESS, defaults={"value": after})
        yield after
        due += BATCH / per_second
        time.sleep(max(0.0, due - time.monotonic()))


def adopt(consumer: Consumer, streams: Streams) -> dict[str, int]:
    """Start a consumer that lacks pruned entries at the present; per producer, how many
    partitions that concerned. What it missed, the owner's backfill tells it."""
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
