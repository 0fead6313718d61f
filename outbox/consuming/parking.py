"""Parked sequences: an event that can't be applied, and all later events of its key.

Events of other keys are still applied. A retry applies a sequence in order, with a transaction for
each event, and stops at the first event that fails again. New events of the key are appended. An
event that can't be applied can be dropped: its row stays, with the reason.
"""

import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Exists, Max, Min, OuterRef, QuerySet
from django.utils import timezone

from ..consumer import NEXT, Consumer
from ..envelope import Envelope, subject_of
from ..errors import DropRefused
from ..models import AbstractParkedEvent
from ..streams import Entry
from ..tables import Tables
from .delivery import Delivery, storable
from .inbox import Inbox

# PostgreSQL has no skip scan for this, so each step looks up the first row after the previous
# sequence (wiki.postgresql.org/wiki/Loose_indexscan), in the index of the parked events.
_HEADS = """
WITH RECURSIVE head AS (
  (SELECT id, partition, key, 1 AS number FROM {parked}
   WHERE consumer = %(consumer)s AND producer = %(producer)s AND dropped_at IS NULL
   AND (partition, key) > (%(partition)s, %(key)s)
   ORDER BY partition, key, id LIMIT 1)
  UNION ALL
  SELECT later.id, later.partition, later.key, head.number + 1
  FROM head CROSS JOIN LATERAL (
    SELECT id, partition, key FROM {parked}
    WHERE consumer = %(consumer)s AND producer = %(producer)s AND dropped_at IS NULL
    AND (partition, key) > (head.partition, head.key)
    ORDER BY partition, key, id LIMIT 1
  ) later WHERE head.number < %(limit)s
)
SELECT id, consumer, producer, each.partition, each.key, entry, type, error, attempts, parked_at
FROM head JOIN {parked} each USING (id) ORDER BY head.number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A parked sequence, with the fields that `manage.py outbox parked list` shows."""

    consumer: str
    producer: str
    partition: int
    key: str
    events: int
    last: int  # the id of its last event
    since: datetime
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryResult:
    """The number of events that a retry applied, and the error that stopped it ('' for none)."""

    applied: int
    error: str = ""


class Parking:
    """The parked events of one consumer and producer."""

    def __init__(self, tables: Tables, *, consumer: str, producer: str) -> None:
        self._tables = tables
        self._consumer = consumer
        self._producer = producer

    @property
    def rows(self) -> QuerySet[AbstractParkedEvent]:
        """The parked events, without the dropped ones."""
        return self.stored.filter(dropped_at=None)

    @property
    def stored(self) -> QuerySet[AbstractParkedEvent]:
        """The parked and the dropped events."""
        rows = self._tables.rows(self._tables.parked)
        return rows.filter(consumer=self._consumer, producer=self._producer)

    def count(self, *, at_most: int | None = None) -> int:
        """The number of parked events, counted up to `at_most`."""
        return self.rows.order_by()[:at_most].count()

    def among(self, entries: Collection[Entry]) -> set[tuple[int, str]]:
        """Of these entries, the partition and the id of each one that is parked or dropped."""
        parked = self._tables.quoted(self._tables.parked)
        with self._tables.connection.cursor() as cursor:
            cursor.execute(
                "SELECT each.partition, each.entry "  # noqa: S608
                "FROM unnest(%s::smallint[], %s::text[]) AS each (partition, entry) "
                f"CROSS JOIN LATERAL (SELECT FROM {parked} WHERE consumer = %s AND producer = %s "
                "AND partition = each.partition AND entry = each.entry LIMIT 1) found",
                [
                    [entry.partition for entry in entries],
                    [entry.id for entry in entries],
                    self._consumer,
                    self._producer,
                ],
            )
            return set(cursor.fetchall())

    def retried(self, live: "Parking") -> Iterator[AbstractParkedEvent]:
        """Yield, in order, the events that are parked here, and neither parked nor dropped in
        `live`."""
        same = live.stored.filter(partition=OuterRef("partition"), entry=OuterRef("entry"))
        return self.rows.filter(~Exists(same)).order_by("id").iterator()

    def park(self, delivery: Delivery, error: BaseException | None, *, attempts: int = 0) -> None:
        """Store the event with its error, or without an error if it waits for an earlier event."""
        self.rows.create(
            consumer=self._consumer,
            producer=self._producer,
            partition=delivery.partition,
            key=delivery.key,
            entry=delivery.id,
            type=delivery.envelope.type if delivery.envelope else "",
            body=delivery.text,
            error=one_line(error) if error else "",
            traceback=_traceback(error) if error else "",
            attempts=attempts,
        )

    def delete_superseded(
        self, envelope: Envelope, *, partition: int, before: int | None = None
    ) -> int:
        """Delete the parked and dropped events of the envelope's aggregate, among those with the
        same key; with `before`, only rows with a lower id. Returns how many events are still parked
        for the key. The caller holds the position's lock.

        The rows of a rebuild are deleted too: the shadow would apply an event that is no longer
        parked.
        """
        of_key = self.stored.filter(partition=partition, key=envelope.partitionkey)
        alike = of_key.filter(type__startswith=f"{envelope.aggregate}.")
        if before is not None:
            alike = alike.filter(pk__lt=before)
        # Two halves, because the parked and the dropped rows have an index each.
        halves = [alike.filter(dropped_at__isnull=parked) for parked in (True, False)]
        entries = [
            entry
            for half in halves
            for entry, body in half.values_list("entry", "body").iterator()
            if subject_of(body) == envelope.subject
        ]
        if entries:
            rows = self._tables.rows(self._tables.parked).filter(producer=self._producer)
            rows = rows.filter(consumer__in=(self._consumer, self._consumer + NEXT))
            rows.filter(partition=partition, entry__in=entries).delete()
        return of_key.filter(dropped_at=None).count()

    def heads(
        self, *, after: tuple[int, str] = (-1, ""), limit: int
    ) -> Iterator[AbstractParkedEvent]:
        """Yield the first event of each of the next `limit` sequences after a partition and key, in
        this order. Each sequence costs one look-up, however many events are parked. The event's
        body and traceback are read when they are used."""
        rows = self._tables.rows(self._tables.parked)
        statement = _HEADS.format(parked=self._tables.quoted(self._tables.parked))
        partition, key = after
        yield from rows.raw(
            statement,
            {
                "consumer": self._consumer,
                "producer": self._producer,
                "partition": partition,
                "key": key,
                "limit": limit,
            },
        )

    def sequences(self) -> Iterator[Sequence]:
        """Yield the sequences, oldest first. Entries without a key: one sequence per partition."""
        groups = self.rows.values("partition", "key").annotate(
            events=Count("id"),
            since=Min("parked_at"),
            first=Min("id"),
            last=Max("id"),
            error=Max("error"),
        )
        fields = ("partition", "key", "events", "last", "since", "error")
        for group in groups.order_by("first").values(*fields):
            yield Sequence(consumer=self._consumer, producer=self._producer, **group)

    def retry(self, consumer: Consumer, *, partition: int, key: str) -> RetryResult:
        """Apply a sequence in order until it is empty or an event fails again.

        Each event's transaction locks the partition's position first, so that the consumer parks
        nothing behind an event that is being deleted.
        """
        inbox = Inbox(self._tables, consumer=self._consumer, producer=self._producer)
        applied = 0
        failed: set[int] = set()
        while True:
            event = None
            try:
                with transaction.atomic(using=self._tables.alias):
                    inbox.lock(partition)
                    waiting = self.rows.filter(partition=partition, key=key).exclude(pk__in=failed)
                    event = waiting.order_by("id").first()
                    if event is None:
                        break
                    envelope = Envelope.decode(event.body, producer=self._producer)
                    if consumer.supersedes(envelope):
                        self.delete_superseded(envelope, partition=partition, before=event.pk)
                    consumer.handle(envelope)
                    event.delete()
            except Exception as exc:
                if event is None:
                    raise
                self.rows.filter(pk=event.pk).update(
                    attempts=event.attempts + 1, error=one_line(exc), traceback=_traceback(exc)
                )
                if key:
                    return RetryResult(applied=applied, error=one_line(exc))
                # Entries without a key are independent: the next entry may succeed.
                failed.add(event.pk)
            else:
                applied += 1
        left = f"{len(failed)} entries without a key failed again" if failed else ""
        return RetryResult(applied=applied, error=left)

    def drop(
        self,
        consumer: Consumer,
        *,
        partition: int,
        key: str,
        upto: int,
        reason: str,
        by: str,
        only_first: bool = False,
    ) -> list[int]:
        """Give up a sequence's events up to the id `upto`, or of these only the first one. Returns
        the ids of the dropped events.

        Their rows stay, with the time, the reason and the operator. The consumer never applies
        them, and they hold back no event. Raises DropRefused, and drops nothing, if one of them
        supersedes earlier events.
        """
        inbox = Inbox(self._tables, consumer=self._consumer, producer=self._producer)
        with transaction.atomic(using=self._tables.alias):
            inbox.lock(partition)
            chosen = self.rows.filter(partition=partition, key=key, pk__lte=upto)
            if only_first:
                chosen = chosen.filter(pk=chosen.order_by("id").values("pk")[:1])
            kept = chosen.filter(type__in=consumer.superseding).order_by("id").first()
            if kept:
                raise DropRefused(
                    f"nothing was dropped: the event {kept.pk} is {kept.type}, which "
                    f"{self._consumer} must apply; fix the cause of its error, then retry the key"
                )
            dropped = list(chosen.order_by("id").values_list("pk", flat=True))
            chosen.update(dropped_at=timezone.now(), dropped_by=by, drop_reason=reason)
            return dropped


def of(consumer: Consumer) -> Iterator[Parking]:
    """Yield the parked events of a consumer, one Parking for each producer."""
    for producer in consumer.producers:
        yield Parking(consumer.tables, consumer=consumer.name, producer=producer)


def one_line(error: BaseException) -> str:
    """Return the error's type and message in one line."""
    return storable(" ".join(f"{type(error).__name__}: {error}".split()))


def _traceback(error: BaseException) -> str:
    return storable("".join(traceback.format_exception(error)))
