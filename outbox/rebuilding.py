"""Rebuilds a projection from stored events, beside the one that is read, and swaps them.

The shadow is a consumer like others, `order_view.next`, with positions of its own. It begins at
the last tick t: what t's snapshot sees comes from the stored events, which bear their
transaction's id, and what t doesn't see from the streams. So it is exact under load, makes no
tick, and nobody stands still for it. It is never ahead of the projection that is read, and at
the swap exactly as far, so readers don't go back in time. Nothing but the projection's own
functions is called. See docs/adr/0011-rebuilds.md.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.apps import apps
from django.db import Error as DatabaseError
from django.db import OperationalError, transaction

from .consumer import Consumer
from .errors import OutboxError, RebuildRefused, Unconfigured
from .following import Follower
from .parking import described
from .projection import Projection, Replayed
from .reader import is_transient
from .shadow import SUFFIX, Differences, Shadow, swapping
from .streams import WHOLE, Streams

NEXT = ".next"  # behind a consumer's name: that of its shadow
CHUNK_EVENTS = 5_000  # stored events per transaction of the replay
LIVE_SECONDS = 10.0  # for a projection that is behind the tick, before a comparison
HOLD_SECONDS = 0.5  # between two looks, while the shadow only follows
SWAP_LOCK_MS = 25  # readers wait behind a swap that waits: then it lets them pass and tries again
SWAP_SECONDS = 120.0  # how long it tries
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rebuild is: a row of the service's state, committed with what it speaks of."""

    tick: int
    snapshot: str
    shape: list[str]  # of the tables that it was begun for
    after: str = ""
    events: int = 0
    replayed: bool = False


class Rebuild:
    """One rebuild, while it is `held`. It may be killed at any point; the next run goes on."""

    def __init__(self, consumer: Consumer, projection: Projection, streams: Streams) -> None:
        if consumer.producers != [consumer.label]:
            raise Unconfigured(f"{consumer.name} reads {', '.join(consumer.producers)} as well")
        self.name = consumer.name
        self.locked_ms = 0.0  # how long readers had to wait for the swap
        self._tables = consumer.tables
        self._connection = self._tables.connection
        self._projection = projection
        self._partitions = streams.partitions
        self._shadow = Consumer(
            label=consumer.label, name=self.name + NEXT, handlers=projection.handlers(SUFFIX)
        )
        self._follower = Follower(self._shadow, name=self.name, streams=streams)
        self._shadows = [
            Shadow(apps.get_model(consumer.label, model), self._connection)
            for model in projection.models
        ]

    def stored_events(self) -> int:
        """About how many there are, for whoever looks how far it is."""
        return int(self._projection.count())

    @contextmanager
    def held(self) -> Iterator["Rebuild"]:
        """Keep every other rebuild of it away. Raises RebuildRefused while another runs."""
        key = f"outbox.rebuild:{self._shadow.subscriber}"
        # The session's lock: it ends with the connection that does the work.
        if not self._ask("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key):
            raise RebuildRefused(f"another rebuild of {self.name} is running")
        try:
            self._ask("SELECT set_config('statement_timeout', '0', false)")
            yield self
        finally:
            if self._connection.is_usable():
                self._ask("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", key)
                with self._connection.cursor() as cursor:
                    cursor.execute("RESET statement_timeout")

    # -- the steps, in their order -------------------------------------------------------

    def replay(self) -> Iterator[Progress]:
        """Begin, or go on where a killed run was, until all is told that the tick sees. Yields
        how far it is, after each chunk."""
        progress = self._kept() or self._begin()
        yield progress
        while not progress.replayed:
            progress = self._replay_chunk(progress)
            yield progress
        for shadow in self._shadows:
            shadow.index()

    def follow(self) -> None:
        """Apply to the shadow what was applied to the projection since."""
        with transaction.atomic(using=self._tables.alias):
            self._follower.catch_up()
            self._subscription.update(confirmed=self._follower.whole())

    def follow_until(self, stopping: threading.Event) -> None:
        """Be the second version beside the first, until told to stop."""
        while not stopping.wait(HOLD_SECONDS):
            self.follow()

    def compare(self) -> list[Differences] | None:
        """Where both have applied exactly the same, what differs: rows that were damaged, or
        that this release writes otherwise. None if the projection isn't as far as the tick and
        doesn't get there.

        Its consumer stands still while the shadow catches up and a snapshot of both is taken;
        they are compared in the snapshot.
        """
        deadline = time.monotonic() + LIVE_SECONDS
        while not self._follower.is_overtaken():
            if time.monotonic() > deadline:
                return None
            time.sleep(FIRST_PAUSE_SECONDS)
        self.follow()
        with ExitStack() as standing:
            standing.enter_context(self._follower.standing_still())
            self.follow()
            with self._repeatable_read():
                self._ask("SELECT 1")  # takes the snapshot
                standing.close()
                return [shadow.differences() for shadow in self._shadows]

    def swap(self) -> None:
        """Put the shadow in the place of the projection, and its positions in theirs. Raises
        RebuildRefused if others use the tables without a pause."""
        deadline, pause = time.monotonic() + SWAP_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            self.follow()
            try:
                self._swap_once()
                break
            except OperationalError as exc:
                if not is_transient(exc) or not self._connection.is_usable():
                    raise
                if time.monotonic() > deadline:
                    raise RebuildRefused(
                        f"the tables of {self.name} were in use for {SWAP_SECONDS:.0f} s: "
                        f"{described(exc)}; run it again, and it goes on from here"
                    ) from exc
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._drop_tables()

    def drop(self) -> None:
        """Forget the rebuild and all that was made for it."""
        with transaction.atomic(using=self._tables.alias):
            self._forget()
            self._drop_tables()

    # -- inside them ---------------------------------------------------------------------

    def _kept(self) -> Progress | None:
        """The progress of a run that ended early, if it can be gone on with."""
        row = self._state.first()
        if row is None:
            return None
        kept = Progress(**json.loads(row.value))
        # A tick that is gone went with a restamp: its snapshot spoke of another server.
        tick = self._rows(self._tables.tick).filter(pk=kept.tick).first()
        known = kept.replayed or (tick is not None and tick.snapshot == kept.snapshot)
        return kept if known and kept.shape == self._shape() else None

    def _begin(self) -> Progress:
        # Committed before the tick is chosen, so that no floor can rise above the tick.
        self._rows(self._tables.subscription).update_or_create(
            name=self._shadow.subscriber, defaults={"confirmed": 0, "confirmed_at": None}
        )
        with self._repeatable_read():
            tick = self._rows(self._tables.tick).order_by("-pk").first()
            if tick is None:
                raise RebuildRefused(f"{self._tables.label} has no tick yet: start its relay")
            for shadow in self._shadows:
                shadow.make()
            self._place(f"{tick.pk}-{WHOLE}")
            self._subscription.update(confirmed=tick.pk)
            progress = Progress(tick=tick.pk, snapshot=tick.snapshot, shape=self._shape())
            self._keep(progress)
        return progress

    def _place(self, entry: str) -> None:
        """The shadow's positions, all of them at this entry."""
        self._unplace()
        self._rows(self._tables.position).bulk_create(
            self._tables.position(
                consumer=self._shadow.name,
                producer=self._shadow.label,
                partition=partition,
                entry=entry,
            )
            for partition in range(self._partitions)
        )

    def _unplace(self) -> None:
        for model in (self._tables.position, self._tables.parked):
            self._rows(model).filter(consumer=self._shadow.name).delete()

    def _replay_chunk(self, progress: Progress) -> Progress:
        # What the tick sees was committed before it and never changes. So each chunk may be a
        # transaction of its own, and a run that goes on sees the same as the one that began.
        with self._repeatable_read():
            told = self._told(progress)
            progress = replace(
                progress,
                after=told.last,
                events=progress.events + told.events,
                replayed=not told.changes,
            )
            self._keep(progress)
        return progress

    def _told(self, progress: Progress) -> Replayed:
        try:
            told = self._projection.replay(
                snapshot=progress.snapshot, after=progress.after, limit=CHUNK_EVENTS
            )
            if told.changes:
                self._projection.project(told.changes, suffix=SUFFIX)
        except (OutboxError, DatabaseError):
            raise
        except Exception as exc:
            raise RebuildRefused(
                f"what is stored after {progress.after or 'the beginning'} can't be told again: "
                f"{described(exc)}"
            ) from exc
        return told

    def _swap_once(self) -> None:
        with transaction.atomic(using=self._tables.alias):
            # The consumer stands still first: it can't want the tables while it waits for us.
            self._follower.catch_up(hold=True)
            self._follower.hand_over()
            self._forget()
            self._ask("SELECT set_config('lock_timeout', %s, true)", f"{SWAP_LOCK_MS}ms")
            swap = "; ".join(swapping(self._shadows))
            began = time.perf_counter()
            with self._connection.cursor() as cursor:
                cursor.execute(swap)
        self.locked_ms = (time.perf_counter() - began) * 1000

    def _forget(self) -> None:
        """Within a transaction: nothing of the shadow is left but its tables."""
        self._unplace()
        self._state.delete()
        self._subscription.delete()

    def _drop_tables(self) -> None:
        with transaction.atomic(using=self._tables.alias):
            for shadow in self._shadows:
                shadow.drop()

    def _keep(self, progress: Progress) -> None:
        self._rows(self._tables.state).update_or_create(
            name=f"rebuild:{self.name}", defaults={"value": json.dumps(asdict(progress))}
        )

    def _shape(self) -> list[str]:
        return [shadow.shape() for shadow in self._shadows]

    @property
    def _state(self) -> Any:
        return self._rows(self._tables.state).filter(name=f"rebuild:{self.name}")

    @property
    def _subscription(self) -> Any:
        return self._rows(self._tables.subscription).filter(name=self._shadow.subscriber)

    def _rows(self, model: Any) -> Any:
        return model._default_manager.using(self._tables.alias)

    @contextmanager
    def _repeatable_read(self) -> Iterator[None]:
        with transaction.atomic(using=self._tables.alias):
            with self._connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    def _ask(self, sql: str, *values: str) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchone()[0]
