"""What a shadow is filled from: its service's stored events, or a backfill by their owner."""

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
from ..streams import WHOLE, Streams, order
from .rebuild import Progress, Rebuild
from .shadow import SUFFIX

CHUNK_EVENTS = 5_000  # stored events per transaction


def rebuild_of(name: str, streams: Streams) -> Rebuild:
    """The rebuild of a projection. Raises RebuildRefused if there is no such projection."""
    consumer, found = projection.named(name)
    kind: type[Rebuild] = FromOwner if isinstance(found, Copy) else FromEvents
    return kind(consumer, found, streams)


class FromEvents(Rebuild):
    """Starts at the last tick t: what t's snapshot sees comes from the stored events, which hold
    their transaction's id, and what t doesn't see comes from the streams. So it is exact under
    load, makes no tick, and blocks nothing."""

    def __init__(self, consumer: Consumer, projection: Projection, streams: Streams) -> None:
        super().__init__(consumer, projection, streams)
        self._projection = projection
        self._ahead: tuple[str, Future[Replayed]] | None = None  # the next chunk, by its `after`

    def fill(self) -> Iterator[Progress]:
        with ThreadPoolExecutor(1, thread_name_prefix="replay") as self._reading:
            try:
                yield from super().fill()
            finally:
                self._ahead = None
                self._reading.submit(connections.close_all)

    def summary(self, progress: Progress) -> str:
        return f"{progress.events} stored events up to tick {progress.tick}"

    def _can_resume(self, saved: Progress) -> bool:
        # A tick that is gone was deleted by a restamp: its snapshot was of another server.
        tick = self._rows(self._tables.tick).filter(pk=saved.tick).first()
        return saved.replayed or (tick is not None and tick.snapshot == saved.snapshot)

    def _start(self) -> Progress:
        # Committed before the tick is chosen, so that no floor can rise above the tick.
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
        # What the tick sees was committed before it and never changes. So each chunk may be a
        # transaction of its own, and a resumed run sees the same as the interrupted one.
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
                # While these are written the next ones are read: what the tick sees never changes.
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
    """Starts empty, at the positions of the projection in use, and follows it, while the
    owner announces all its aggregates, one by one. Each is announced under its lock, so that the
    announcement contains every earlier change."""

    def __init__(self, consumer: Consumer, projection: Copy, streams: Streams) -> None:
        super().__init__(consumer, projection, streams)
        self._backfill = projection.backfill
        self._live = Inbox(self._tables, consumer=self.name, producer=self._producer)

    def summary(self, progress: Progress) -> str:
        return f"{progress.events} rows, announced by {self._producer}"

    def _can_resume(self, saved: Progress) -> bool:
        # The shadow doesn't hold back the owner's retention: it is behind by one page at most, or
        # by the time since a killed run.
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
