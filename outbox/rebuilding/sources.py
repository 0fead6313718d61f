"""The sources of a shadow's data: the service's stored events, or a backfill by the owner."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections, transaction

from .. import projection
from ..consumer import Consumer
from ..consuming.inbox import START, Inbox
from ..consuming.parking import one_line
from ..errors import OutboxError, RebuildRefused
from ..projection import Copy, Projection, Replayed
from ..publishing import origin
from ..streams import WHOLE, Streams, order
from .rebuild import Progress, Rebuild
from .shadow import SUFFIX

CHUNK_EVENTS = 5_000  # stored events per transaction


def rebuild_of(name: str, streams: Streams) -> Rebuild:
    """Return the rebuild of a projection. Raises RebuildRefused if the projection is unknown."""
    consumer, found = projection.named(name)
    kind: type[Rebuild] = FromOwner if isinstance(found, Copy) else FromEvents
    return kind(consumer, found, streams)


class FromEvents(Rebuild):
    """Fills the shadow from the event store and the streams. If the last tick's snapshot sees an
    event's transaction, the event comes from the event store, otherwise from the streams. So the
    result is exact under load. The rebuild makes no tick and blocks nothing."""

    def __init__(self, consumer: Consumer, projection: Projection, streams: Streams) -> None:
        super().__init__(consumer, projection, streams)
        self._projection = projection
        self._ahead: tuple[str, Future[Replayed]] | None = None  # `after` and the next chunk

    def fill(self) -> Iterator[Progress]:
        origin.check(self._tables)
        with ThreadPoolExecutor(1, thread_name_prefix="replay") as self._reading:
            try:
                yield from super().fill()
            finally:
                self._ahead = None
                self._reading.submit(connections.close_all)

    def summary(self, progress: Progress) -> str:
        return f"{progress.events} stored events up to tick {progress.tick}"

    def _can_resume(self, saved: Progress) -> bool:
        # A missing tick was deleted by a restamp, because its snapshot was of another server.
        tick = self._rows(self._tables.tick).filter(pk=saved.tick).first()
        return saved.replayed or (tick is not None and tick.snapshot == saved.snapshot)

    def _start(self) -> Progress:
        # Commit the subscription before the tick is chosen: then the floor can't pass the tick.
        self._rows(self._tables.subscription).update_or_create(
            name=self._shadow.subscriber, defaults={"confirmed": 0, "confirmed_at": None}
        )
        with self._repeatable_read():
            tick = self._rows(self._tables.tick).order_by("-pk").first()
            if tick is None:
                raise RebuildRefused(f"{self._tables.label} has no tick yet: start its relay")
            for shadow in self._shadows:
                shadow.create()
            partitions = range(self._streams.partitions)
            self._set_positions(dict.fromkeys(partitions, f"{tick.pk}-{WHOLE}"))
            self._subscription.update(confirmed=tick.pk)
            progress = Progress(tick=tick.pk, snapshot=tick.snapshot, shape=self._shape())
            self._save(progress)
        return progress

    def _fill_chunk(self, progress: Progress) -> Progress:
        # The events that the tick sees were committed before it and never change. So each chunk can
        # have its own transaction, and a resumed run sees the same events as the interrupted run.
        with self._repeatable_read():
            chunk = self._project_next(progress)
            progress = replace(
                progress,
                after=chunk.last,
                events=progress.events + chunk.events,
                replayed=not chunk.changes,
            )
            self._save(progress)
        return progress

    def _project_next(self, progress: Progress) -> Replayed:
        try:
            chunk = self._next_chunk(progress)
            if chunk.changes:
                # Read the next chunk while this chunk is written: stored events never change.
                ahead = self._reading.submit(self._replay, progress.snapshot, chunk.last)
                self._ahead = chunk.last, ahead
                self._projection.project(chunk.changes, suffix=SUFFIX)
        except (OutboxError, DatabaseError):
            raise
        except Exception as exc:
            raise RebuildRefused(
                f"cannot replay the events after {progress.after or 'the start'}: {one_line(exc)}"
            ) from exc
        return chunk

    def _next_chunk(self, progress: Progress) -> Replayed:
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == progress.after:
            return ahead[1].result()
        return self._replay(progress.snapshot, progress.after)

    def _replay(self, snapshot: str, after: str) -> Replayed:
        return self._projection.replay(snapshot=snapshot, after=after, limit=CHUNK_EVENTS)


class FromOwner(Rebuild):
    """Fills the shadow by a backfill. The shadow starts empty at the live consumer's positions, and
    follows that consumer while the owner announces all aggregates, one by one. The owner locks each
    aggregate for its announcement, so the announcement contains every earlier change."""

    def __init__(self, consumer: Consumer, projection: Copy, streams: Streams) -> None:
        super().__init__(consumer, projection, streams)
        self._backfill = projection.backfill
        self._live = Inbox(self._tables, consumer=self.name, producer=self._producer)

    def summary(self, progress: Progress) -> str:
        return f"{progress.events} rows, announced by {self._producer}"

    def _can_resume(self, saved: Progress) -> bool:
        # The shadow doesn't hold back the owner's retention, so entries after the shadow's
        # positions may have been deleted since a killed run.
        floor = (self._streams.cursor(self._producer).floor, WHOLE)
        rows: Any = self._rows(self._tables.position).filter(consumer=self._shadow.name)
        entries = list(rows.values_list("entry", flat=True))
        return bool(entries) and all(order(entry) >= floor for entry in entries)

    def _start(self) -> Progress:
        with transaction.atomic(using=self._tables.alias):
            for shadow in self._shadows:
                shadow.create()
            at = dict.fromkeys(range(self._streams.partitions), START)
            self._set_positions(at | self._live.stored())
            progress = Progress(shape=self._shape())
            self._save(progress)
        return progress

    def _fill_chunk(self, progress: Progress) -> Progress:
        last = self._announce_next(progress)
        with transaction.atomic(using=self._tables.alias):
            self._follower.catch_up()
            progress = replace(
                progress,
                after=last or progress.after,
                events=self._shadows[0].count(),
                replayed=not last,
            )
            self._save(progress)
        return progress

    def _announce_next(self, progress: Progress) -> str:
        try:
            return self._backfill(after=progress.after)
        except (OutboxError, DatabaseError):
            raise
        except Exception as exc:
            raise RebuildRefused(
                f"the backfill of {self.name} by {self._producer} failed: {one_line(exc)}"
            ) from exc
