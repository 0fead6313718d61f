"""Makes a shadow follow the live consumer: the shadow applies the same events."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from django.db import Error as DatabaseError

from .. import drivers
from ..consumer import Consumer
from ..consuming.delivery import Delivery
from ..consuming.inbox import START, Inbox
from ..consuming.parking import Parking, one_line
from ..consuming.reader import complete_tick
from ..envelope import Envelope
from ..errors import OutboxError, RebuildRefused, StreamsUnavailable
from ..streams import Cursor, Entry, Streams, order

READ_ENTRIES = 500  # per partition and read
BLOCK_SECONDS = 0.02  # how long a read waits for missing entries
RESEND_SECONDS = 15.0  # how long to wait until the relay has sent lost entries again


class Follower:
    """Applies to `shadow` one producer's events that the live consumer `name` has applied.

    It never moves the shadow past the live positions. If the live consumer has parked an event, the
    shadow parks the event too, and applies it after a successful retry of the live consumer. The
    shadow never applies an event that was dropped.
    """

    def __init__(self, shadow: Consumer, *, name: str, producer: str, streams: Streams) -> None:
        self._shadow = shadow
        self._name = name
        self._producer = producer
        self._tables = shadow.tables
        self._streams = streams
        self._live = Inbox(self._tables, consumer=name, producer=self._producer)
        self._next = Inbox(self._tables, consumer=shadow.name, producer=self._producer)
        self._parked_live = Parking(self._tables, consumer=name, producer=self._producer)
        self._parked_next = Parking(self._tables, consumer=shadow.name, producer=self._producer)

    def catch_up(self, *, hold: bool = False) -> None:
        """Within a transaction, apply to the shadow all events that the live consumer has applied.
        With `hold`, the live positions stay locked until the transaction ends.

        Raises RebuildRefused if only the shadow can't apply an event, and StreamsUnavailable if the
        streams have lost entries that the live consumer has applied.
        """
        partitions = range(self._streams.partitions)
        targets = self._live.open(partitions) if hold else self._live.stored()
        self._apply_retried()
        reached = self._next.stored()
        deadline = time.monotonic() + RESEND_SECONDS
        while behind := {p: end for p, end in targets.items() if order(reached[p]) < order(end)}:
            moved = self._advance(reached, behind)
            if moved:
                deadline = time.monotonic() + RESEND_SECONDS
            elif time.monotonic() > deadline:
                raise StreamsUnavailable(
                    f"the streams of {self._producer} have lost applied entries. Its relay sends "
                    "lost entries again: check that the relay runs"
                )
            reached |= moved

    def live_has_caught_up(self) -> bool:
        """Whether the live consumer has applied all events that the shadow has applied."""
        tops, live = self._streams.cursor(self._producer).tops, self._live.stored()
        return all(
            order(live.get(partition, START))
            >= min(order(entry), order(tops.get(partition, START)))
            for partition, entry in self._next.stored().items()
        )

    def last_complete_tick(self) -> int:
        """The last tick that the shadow has applied completely."""
        return min(complete_tick(entry) for entry in self._next.stored().values())

    def transfer_positions(self) -> None:
        """In the transaction of `catch_up(hold=True)`, copy the shadow's positions to the live
        consumer. They differ only if the live consumer was behind the shadow."""
        rows = self._tables.position._default_manager.using(self._tables.alias)
        live = rows.filter(consumer=self._name, producer=self._producer)
        for partition, entry in self._next.stored().items():
            live.filter(partition=partition).exclude(entry=entry).update(entry=entry)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the live consumer: a separate session locks the consumer's positions."""
        connection = drivers.own_session(self._tables.connection)
        position = connection.ops.quote_name(self._tables.position._meta.db_table)
        try:
            connection.set_autocommit(False)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT FROM {position} WHERE consumer = %s ORDER BY partition FOR UPDATE",
                    [self._name],
                )
            yield
        finally:
            connection.close()

    def _advance(self, reached: Mapping[int, str], targets: Mapping[int, str]) -> dict[int, str]:
        """Read once and apply the entries. Returns the positions that moved."""
        batch = self._streams.read(
            self._producer,
            {partition: reached[partition] for partition in targets},
            count=READ_ENTRIES,
            block_seconds=BLOCK_SECONDS,
        )
        found = sorted(batch.entries if batch else (), key=lambda entry: order(entry.id))
        due = [entry for entry in found if order(entry.id) <= order(targets[entry.partition])]
        beyond = {e.partition for e in found if order(e.id) > order(targets[e.partition])}
        self._apply(due)
        ends = {entry.partition: entry.id for entry in due}
        cursor = batch.cursor if batch else self._streams.cursor(self._producer)
        for partition, target in targets.items():
            last = ends.get(partition, reached[partition])
            if partition in beyond or _has_nothing_between(cursor, partition, last, target):
                ends[partition] = target
        self._next.move({p: (reached[p], end) for p, end in ends.items()})
        return ends

    def _apply(self, entries: Sequence[Entry]) -> None:
        parked = self._parked_live.among(entries)
        envelopes: list[Envelope] = []
        for entry in entries:
            delivery = Delivery.of(entry, producer=self._producer)
            if (delivery.partition, delivery.id) in parked:
                self._parked_next.park(delivery, None)
            else:
                envelopes.append(delivery.decoded())
        self._handle(envelopes)

    def _apply_retried(self) -> None:
        """Apply the shadow's parked events that are no longer parked for the live consumer."""
        for row in self._parked_next.retried(self._parked_live):
            self._handle([Envelope.decode(row.body, producer=self._producer)])
            row.delete()

    def _handle(self, envelopes: Sequence[Envelope]) -> None:
        try:
            self._shadow.handle_all(envelopes)
        except (OutboxError, DatabaseError):
            raise
        except Exception as exc:
            raise RebuildRefused(
                f"{self._shadow.name} can't apply an event: {one_line(exc)}"
            ) from exc


def _has_nothing_between(cursor: Cursor, partition: int, last: str, target: str) -> bool:
    """Whether the partition has no entry between `last` and `target`: `last` has reached the
    partition's top, and all entries up to `target` are published. The second condition is false
    while the relay sends lost streams again, because the cursor's `at` is then before `target`."""
    return last == target or (
        order(cursor.at or START) >= order(target)
        and order(cursor.tops.get(partition, START)) <= order(last)
    )
