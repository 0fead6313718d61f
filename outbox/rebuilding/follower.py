"""A shadow follows its projection: it applies what that has applied, up to the same entry."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from django.db import Error as DatabaseError

from ..consumer import Consumer
from ..consuming.delivery import Delivery
from ..consuming.inbox import START, Inbox
from ..consuming.parking import Parking, described
from ..consuming.reader import whole_tick
from ..envelope import Envelope
from ..errors import OutboxError, RebuildRefused, StreamsUnavailable
from ..streams import Cursor, Entry, Streams, order

READ_ENTRIES = 500  # of each partition, in one read of the streams
BLOCK_SECONDS = 0.02  # for entries that aren't there
RESENT_SECONDS = 15.0  # for the relay to send again what the streams lost


class Follower:
    """`shadow` follows the consumer `name` of one producer's events.

    Its positions are never beyond the other's. What is parked for the other is parked for the
    shadow too, and applied once it has been replayed there.
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
        """Within a transaction: apply to the shadow all that the other has applied. With `hold`
        the other stands still until the transaction ends.

        Raises RebuildRefused at an event that only the shadow can't apply, and
        StreamsUnavailable if the streams lack what the other has read.
        """
        partitions = range(self._streams.partitions)
        targets = self._live.open(partitions) if hold else self._live.stored()
        self._apply_replayed()
        reached = self._next.stored()
        behind = {p: end for p, end in targets.items() if order(reached[p]) < order(end)}
        deadline = time.monotonic() + RESENT_SECONDS
        while behind:
            moved = self._advance(reached, behind)
            if moved:
                deadline = time.monotonic() + RESENT_SECONDS
            elif time.monotonic() > deadline:
                raise StreamsUnavailable(
                    f"the streams of {self._producer} lack entries that were applied: its relay "
                    "sends them again, if it runs"
                )
            reached |= moved
            behind = {p: end for p, end in behind.items() if order(reached[p]) < order(end)}

    def is_overtaken(self) -> bool:
        """Whether the other has applied all that the shadow has."""
        tops, live = self._streams.cursor(self._producer).tops, self._live.stored()
        return all(
            order(live.get(partition, START))
            >= min(order(entry), order(tops.get(partition, START)))
            for partition, entry in self._next.stored().items()
        )

    def whole(self) -> int:
        """The last tick that the shadow has all of."""
        return min(whole_tick(entry) for entry in self._next.stored().values())

    def hand_over(self) -> None:
        """Within a transaction, and with `catch_up(hold=True)` in it: the other goes on from
        where the shadow is, which is no different place unless it was behind the shadow."""
        rows = self._tables.position._default_manager.using(self._tables.alias)
        live = rows.filter(consumer=self._name, producer=self._producer)
        for partition, entry in self._next.stored().items():
            live.filter(partition=partition).exclude(entry=entry).update(entry=entry)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The other's positions are held by a session of their own, and so its effects."""
        connection = self._tables.connection.copy()
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
        """Apply what one read found; where each partition is now, if it moved."""
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
            if partition in beyond or _has_all(cursor, partition, last, target):
                ends[partition] = target
        self._next.move({p: (reached[p], end) for p, end in ends.items()})
        return ends

    def _apply(self, entries: Sequence[Entry]) -> None:
        parked = self._parked_live.entries()
        envelopes: list[Envelope] = []
        for delivery in map(Delivery.of, entries):
            if (delivery.partition, delivery.id) in parked:
                self._parked_next.park(delivery, None)
            elif delivery.envelope is None:
                raise delivery.error or AssertionError("neither event nor error")
            else:
                envelopes.append(delivery.envelope)
        self._handle(envelopes)

    def _apply_replayed(self) -> None:
        """What was parked for both, and isn't for the other any more."""
        parked = self._parked_live.entries()
        for row in self._parked_next.rows.order_by("id"):
            if (row.partition, row.entry) not in parked:
                self._handle([Envelope.decode(row.body)])
                row.delete()

    def _handle(self, envelopes: Sequence[Envelope]) -> None:
        try:
            self._shadow.handle_all(envelopes)
        except (OutboxError, DatabaseError):
            raise
        except Exception as exc:
            raise RebuildRefused(
                f"{self._shadow.name} can't apply an event: {described(exc)}"
            ) from exc


def _has_all(cursor: Cursor, partition: int, last: str, target: str) -> bool:
    """Whether nothing lies between `last` and `target`: the streams hold whatever was published
    up to there, and the partition's last entry was seen. Streams that were lost, and are being
    sent again, don't say so before they are whole."""
    return last == target or (
        order(cursor.at or START) >= order(target)
        and order(cursor.tops.get(partition, START)) <= order(last)
    )
