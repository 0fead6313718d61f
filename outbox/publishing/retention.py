"""Retention deletes old rows, ticks and entries that all subscribers have confirmed.

Two parts are tuned for speed: `_batches` pauses after each batch, and `_delete_rows` continues
where the last batch or round ended. Without pauses, the longest deletion took 223 to 353 ms, mostly
for the flush of the WAL, and commits waited equally long. A batch takes 3 ms on average. Without
the start value, the first statement of a round took 372 ms (`./dev bench --only retention`).

The floor is a tick that every subscriber has confirmed, that was sent completely, and that is older
than the retention. The new floor is committed first. Then the rows up to the floor are deleted in
short batches, then the ticks before the floor, then the entries. The floor tick itself stays,
because the batch of the next tick is computed from the floor tick's snapshot.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from ..streams import Streams, order
from ..streams.client import MOST_SUBSCRIBERS, Confirmation, service_of
from ..tables import PARTITIONS, Tables
from . import origin
from .ticks import clock_ms

log = logging.getLogger(__name__)

PRUNE_EVERY_SECONDS = 10.0  # between the starts of two rounds, by beat or by `outbox relay`
BATCH_ROWS = 1000  # deleting this many rows takes a few milliseconds
# The pause after a batch, as a multiple of the batch's time. Without pauses, batches write WAL
# faster than many disks flush it, and every commit waits for that flush.
PAUSE_FACTOR = 3
# In a transaction with a lock: if the process freezes, PostgreSQL ends the session. Otherwise all
# later rounds would wait for ever.
BOUNDED = "set_config('idle_in_transaction_session_timeout', '10s', true)"
DEFAULT_RETENTION_SECONDS = 7 * 24 * 3600
FLOOR = "floor"  # the name of the state row


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The floor after one round, and the numbers of deleted rows and ticks."""

    floor: int
    rows: int
    ticks: int


def retention_seconds() -> float:
    """The setting OUTBOX_RETENTION_SECONDS. Set it to at least the age of the oldest backup that a
    consumer may be restored from, because a consumer below the floor needs a backfill."""
    return float(getattr(settings, "OUTBOX_RETENTION_SECONDS", DEFAULT_RETENTION_SECONDS))


def prune(
    tables: Tables,
    streams: Streams,
    *,
    budget_seconds: float = 5.0,
    clock_ms: Callable[[], int] = clock_ms,
) -> Pruned:
    """Save the subscribers' confirmations, raise the floor, and delete everything up to the floor.

    Stops after `budget_seconds`, of which up to three quarters are pauses. The next round
    continues. Without a subscriber, nothing is deleted.
    Raises RestoredDatabase: in a restored outbox, old ticks could see new rows. Raises RuntimeError
    inside a transaction: the floor must be committed before any deletion.
    """
    origin.check(tables)
    save_confirmations(tables, streams)
    now = clock_ms()
    newest = now - round(min(retention_seconds() * 1000, now))  # the retention can be infinite
    floor = _raise_floor(tables, min(newest, streams.cursor(tables.label).complete))
    rows = ticks = 0
    if floor:
        deadline = time.monotonic() + budget_seconds
        rows, all_deleted = _delete_rows(tables, floor, deadline)
        # The next round starts at the oldest tick, so all rows that this tick sees must be deleted.
        ticks = _delete_ticks(tables, floor, deadline) if all_deleted else 0
        streams.prune(tables.label, floor=floor)
    return Pruned(floor=floor, rows=rows, ticks=ticks)


def save_confirmations(tables: Tables, streams: Streams) -> None:
    """Save the subscribers' confirmations in the owner's schema: the streams can lose them.

    A consumer is a subscriber once it has confirmed every partition; then retention and erasures
    wait for it. The names come from the consumers' services: of each service, the first
    MOST_SUBSCRIBERS are saved.
    """
    kept = tables.rows(tables.state).filter(name=PARTITIONS).first()
    partitions = int(kept.value) if kept else 0
    known = set(tables.rows(tables.subscription).values_list("name", flat=True))
    numbers = Counter(map(service_of, known))
    producers = getattr(settings, "OUTBOX_PRODUCERS", ())
    confirmations = streams.confirmations(
        tables.label, subscribers=known, services={*producers, tables.label}
    )
    _report_lost_ticks(tables, streams, confirmations)
    rows = []
    for name, found in sorted(confirmations.items()):
        if not len(found.ticks) >= partitions > 0:
            continue
        if name not in known:
            numbers[service_of(name)] += 1
            if numbers[service_of(name)] > MOST_SUBSCRIBERS:
                continue
        tick = min(found.ticks.values())
        rows.append(tables.subscription(name=name, confirmed=tick, confirmed_at=found.at))
    for service, number in numbers.items():
        if number > MOST_SUBSCRIBERS:
            log.error(
                "%d subscribers of %s are ignored: %s has too many; unsubscribe those that it"
                " doesn't have",
                *(number - MOST_SUBSCRIBERS, tables.label, service),
            )
    tables.rows(tables.subscription).bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["confirmed", "confirmed_at"],
    )


def _report_lost_ticks(
    tables: Tables, streams: Streams, confirmations: Mapping[str, Confirmation]
) -> None:
    """Log an error if a consumer has applied a tick that a failover of both servers has lost. The
    ticks don't continue above it by themselves: then any consumer could move them."""
    reached = {name: max(found.ticks.values(), default=0) for name, found in confirmations.items()}
    name = max(reached, key=reached.__getitem__, default="")
    newest = tables.rows(tables.tick).order_by("-pk").first()
    if not name or newest is None or reached[name] <= newest.pk:
        return
    at = streams.cursor(tables.label).at
    if at and order(at)[0] >= reached[name]:
        return  # only the database has lost it, and the relay continues above it (recovery.py)
    log.error(
        "%s has applied tick %d of %s, which neither the database nor the streams have: a failover "
        "of both lost it. Consumers apply its events again, and skip new ones while the relay's "
        "clock is behind the tick: if it is, correct it; then run manage.py outbox backfill %s",
        *(name, reached[name], tables.label, tables.label),
    )


def _raise_floor(tables: Tables, limit: int) -> int:
    """Commit and return the highest floor that all subscribers allow; it never decreases."""
    alias = tables.alias
    with transaction.atomic(using=alias, durable=True):
        with tables.connection.cursor() as cursor:
            cursor.execute(f"SELECT {BOUNDED}")
        states = tables.rows(tables.state)
        kept, _ = states.select_for_update().get_or_create(name=FLOOR, defaults={"value": "0"})
        confirmed = list(tables.rows(tables.subscription).values_list("confirmed", flat=True))
        if not confirmed or None in confirmed:
            return int(kept.value)
        limit = min(limit, *(tick for tick in confirmed if tick is not None))
        highest = tables.rows(tables.tick).filter(pk__lte=limit).order_by("-pk").first()
        if highest and highest.pk > int(kept.value):
            kept.value = str(highest.pk)
            kept.save(using=alias, update_fields=["value"])
    return int(kept.value)


def _delete_rows(tables: Tables, floor: int, deadline: float) -> tuple[int, bool]:
    """Returns how many rows were deleted, and whether all rows up to the floor are deleted."""
    ticks = tables.rows(tables.tick)
    oldest = ticks.order_by("pk").first()
    if oldest is None:
        return 0, True
    event, tick = tables.quoted(tables.event), tables.quoted(tables.tick)
    # A batch doesn't wait for the flush of its WAL. If a crash undoes a batch, its rows are deleted
    # again: the ticks that see these rows still exist, as their deletion comes later in the WAL.
    # In index order, a batch starts where the last batch ended, and a round where the last round
    # ended. Otherwise the scan would read all rows that were deleted since the last vacuum.
    # The statement reads the floor's snapshot itself: `restamp` deletes the old ticks before it
    # changes rows, so a round that started earlier then deletes nothing.
    snapshot = f"(SELECT snapshot FROM {tick} WHERE id = %(floor)s)"  # noqa: S608
    statement = (
        f"WITH gone AS (DELETE FROM {event} WHERE ctid = ANY(ARRAY("  # noqa: S608
        f"SELECT ctid FROM {event} WHERE xid >= %(from)s::text::xid8 "
        f"AND xid < pg_snapshot_xmax({snapshot}) AND pg_visible_in_snapshot(xid, {snapshot}) "
        "ORDER BY xid LIMIT %(limit)s)) RETURNING xid) "
        "SELECT count(*), max(xid::text::numeric), set_config('synchronous_commit', 'off', true) "
        "FROM gone"
    )
    deleted, start = 0, int(oldest.snapshot.partition(":")[0])  # no rows are left below this xmin
    for _ in _batches(deadline):
        with transaction.atomic(using=tables.alias), tables.connection.cursor() as cursor:
            # Of two rounds at the same time, the second would find only rows that the first is
            # deleting, and take them for the last ones. The next statement has a new snapshot.
            cursor.execute(
                f"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)), {BOUNDED}",
                [f"outbox.retention:{tables.label}"],
            )
            cursor.execute(statement, {"from": start, "floor": floor, "limit": BATCH_ROWS})
            number, last, _ = cursor.fetchone()
        deleted += number
        if number < BATCH_ROWS:
            return deleted, True
        start = int(last)
    return deleted, False


def _delete_ticks(tables: Tables, floor: int, deadline: float) -> int:
    ticks = tables.rows(tables.tick).filter(pk__lt=floor)
    deleted = 0
    for _ in _batches(deadline):
        some = list(ticks.order_by("pk").values_list("pk", flat=True)[:BATCH_ROWS])
        ticks.filter(pk__in=some).delete()
        deleted += len(some)
        if len(some) < BATCH_ROWS:
            break
    return deleted


def _batches(deadline: float) -> Iterator[None]:
    """Yield once for each batch, and pause after the batch, until the deadline."""
    while (started := time.monotonic()) < deadline:
        yield
        now = time.monotonic()
        time.sleep(max(0.0, min(PAUSE_FACTOR * (now - started), deadline - now)))
