"""Retention: rows, ticks and entries are dropped behind the slowest subscriber, once old enough.

The floor is a tick that every subscriber has whole, that was sent whole, and that is older than
the retention. It is committed first; only then go the rows of the ticks up to it, in batches
that hold nothing for long, and then the entries. The floor tick stays: the next one's batch
begins where it ends.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connections, transaction

from ..streams import Confirmation, Streams
from ..tables import Tables
from .ticks import clock_ms

BATCH_ROWS = 1000  # a statement that deletes so many takes a few milliseconds
# How often the time of a batch is rested after it. Batches without a pause write log faster than
# many a disk flushes it, and whoever commits meanwhile waits for theirs too.
RESTS = 3
DEFAULT_RETENTION_SECONDS = 7 * 24 * 3600
FLOOR = "floor"  # the name of the state row


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What one round of pruning did."""

    floor: int
    rows: int
    ticks: int


def retention_seconds() -> float:
    """The setting OUTBOX_RETENTION_SECONDS: at least the age of the oldest backup that a consumer
    may be restored from, since a consumer older than the floor has to be backfilled."""
    return float(getattr(settings, "OUTBOX_RETENTION_SECONDS", DEFAULT_RETENTION_SECONDS))


def prune(
    tables: Tables,
    streams: Streams,
    *,
    budget_seconds: float = 5.0,
    clock_ms: Callable[[], int] = clock_ms,
) -> Pruned:
    """Take over what the subscribers confirmed, raise the floor, and drop what is below it.

    Stops after `budget_seconds`, of which it rests three quarters if there is much to drop; the
    next round goes on. Without a subscriber, or with one that never confirmed, nothing is dropped:
    nobody is known to have it.
    Raises RuntimeError inside a transaction, which would hide the floor.
    """
    note_confirmations(tables, streams.confirmations(tables.label))
    newest = clock_ms() - round(retention_seconds() * 1000)
    floor = _raise_floor(tables, min(newest, streams.cursor(tables.label).complete))
    rows = ticks = 0
    if floor:
        deadline = time.monotonic() + budget_seconds
        rows, all_are_gone = _delete_rows(tables, floor, deadline)
        # The oldest tick that is left tells the next round where to begin: what it sees is gone.
        ticks = _delete_ticks(tables, floor, deadline) if all_are_gone else 0
        streams.prune(tables.label, floor=floor)
    return Pruned(floor=floor, rows=rows, ticks=ticks)


def note_confirmations(tables: Tables, told: dict[str, Confirmation]) -> None:
    """Keep in the owner's schema what the subscribers told through the stream server, which may
    forget it at any time."""
    partitions = int(
        tables.state._default_manager.using(tables.alias)
        .filter(name="partitions")
        .values_list("value", flat=True)
        .first()
        or 0
    )
    rows = [
        tables.subscription(
            name=name,
            confirmed=min(found.ticks.values()) if len(found.ticks) >= partitions > 0 else None,
            confirmed_at=found.at,
        )
        for name, found in told.items()
    ]
    tables.subscription._default_manager.using(tables.alias).bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["confirmed", "confirmed_at"],
    )


def _raise_floor(tables: Tables, limit: int) -> int:
    """Commit and return the highest floor that all allow; it never sinks."""
    alias = tables.alias
    states = tables.state._default_manager.using(alias)
    with transaction.atomic(using=alias, durable=True):
        kept, _ = states.select_for_update().get_or_create(name=FLOOR, defaults={"value": "0"})
        confirmed = list(
            tables.subscription._default_manager.using(alias).values_list("confirmed", flat=True)
        )
        if not confirmed or None in confirmed:
            return int(kept.value)
        limit = min(limit, *(tick for tick in confirmed if tick is not None))
        below = tables.tick._default_manager.using(alias).filter(pk__lte=limit)
        highest = below.order_by("-pk").values_list("pk", flat=True).first() or 0
        if highest > int(kept.value):
            kept.value = str(highest)
            kept.save(using=alias, update_fields=["value"])
    return int(kept.value)


def _delete_rows(tables: Tables, floor: int, deadline: float) -> tuple[int, bool]:
    """How many rows went, and whether all did that may go."""
    ticks = tables.tick._default_manager.using(tables.alias)
    tick, oldest = ticks.filter(pk=floor).first(), ticks.order_by("pk").first()
    if tick is None or oldest is None:  # restamped since: what was below the floor went then
        return 0, True
    event = tables.connection.ops.quote_name(tables.event._meta.db_table)
    # No batch waits until its log is flushed: one that a crash takes back is dropped again, since
    # the ticks that see its rows are deleted later, and logged later.
    # In the order of the index and from where the last batch ended, as the first begins where the
    # last round ended: a fresh start would walk over all that was deleted since the last vacuum.
    statement = (
        f"WITH gone AS (DELETE FROM {event} WHERE ctid = ANY(ARRAY("  # noqa: S608
        f"SELECT ctid FROM {event} WHERE xid >= %(from)s::text::xid8 "
        "AND xid < pg_snapshot_xmax(%(floor)s::pg_snapshot) "
        "AND pg_visible_in_snapshot(xid, %(floor)s::pg_snapshot) "
        "ORDER BY xid LIMIT %(limit)s)) RETURNING xid) "
        "SELECT count(*), max(xid::text::numeric), set_config('synchronous_commit', 'off', true) "
        "FROM gone"
    )
    deleted, start = 0, _first_unseen(oldest.snapshot)
    for _ in _turns(deadline):
        with connections[tables.alias].cursor() as cursor:
            cursor.execute(statement, {"from": start, "floor": tick.snapshot, "limit": BATCH_ROWS})
            number, last, _ = cursor.fetchone()
        deleted += number
        if number < BATCH_ROWS:
            return deleted, True
        start = int(last)
    return deleted, False


def _first_unseen(snapshot: str) -> int:
    """The lowest transaction id that the snapshot may not see: its xmin."""
    return int(snapshot.partition(":")[0])


def _delete_ticks(tables: Tables, floor: int, deadline: float) -> int:
    ticks = tables.tick._default_manager.using(tables.alias).filter(pk__lt=floor)
    deleted = 0
    for _ in _turns(deadline):
        some = list(ticks.order_by("pk").values_list("pk", flat=True)[:BATCH_ROWS])
        ticks.filter(pk__in=some).delete()
        deleted += len(some)
        if len(some) < BATCH_ROWS:
            break
    return deleted


def _turns(deadline: float) -> Iterator[None]:
    """A batch's turn, and another after a rest, until the time is up."""
    while (began := time.monotonic()) < deadline:
        yield
        now = time.monotonic()
        time.sleep(max(0.0, min(RESTS * (now - began), deadline - now)))
