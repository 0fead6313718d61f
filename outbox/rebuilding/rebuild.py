"""Rebuilds a projection beside the one that is read, and swaps them.

The shadow is a consumer like others, `order_view.next`, with positions of its own. What it is
filled from is outbox.replaying's; what comes after that it has from the streams. It is never ahead
of the projection that is read, and at the swap exactly as far, so readers don't go back in time.
Nothing but the projection's own functions is called. See docs/adr/0011-rebuilds.md.
"""

import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from django.apps import apps
from django.db import OperationalError, transaction

from ..consumer import Consumer
from ..consuming.parking import described
from ..consuming.reader import is_transient
from ..errors import RebuildRefused, Unconfigured
from ..projection import Copy, Projection
from ..streams import Streams
from .follower import Follower
from .shadow import SUFFIX, Differences, Shadow, swapping

NEXT = ".next"  # behind a consumer's name: that of its shadow
LIVE_SECONDS = 10.0  # for a projection that is behind the tick, before a comparison
HOLD_SECONDS = 0.5  # between two looks, while the shadow only follows
SWAP_LOCK_MS = 25  # readers wait behind a swap that waits: then it lets them pass and tries again
SWAP_SECONDS = 120.0  # how long it tries
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rebuild is: a row of the service's state, committed with what it speaks of."""

    shape: list[str]  # of the tables that it was begun for
    tick: int = 0  # whose snapshot decides what stored events are told
    snapshot: str = ""
    after: str = ""
    events: int = 0
    replayed: bool = False


class Rebuild(ABC):
    """One rebuild, while it is `held`. It may be killed at any point; the next run goes on."""

    def __init__(self, consumer: Consumer, projection: Projection | Copy, streams: Streams) -> None:
        if len(consumer.producers) != 1:
            raise Unconfigured(f"{consumer.name} reads {' and '.join(consumer.producers)}")
        (self._producer,) = consumer.producers
        self.name = consumer.name
        self.locked_ms = 0.0  # how long readers had to wait for the swap
        self._tables = consumer.tables
        self._connection = self._tables.connection
        self._count = projection.count
        self._streams = streams
        self._shadow = Consumer(
            label=consumer.label, name=self.name + NEXT, handlers=projection.handlers(SUFFIX)
        )
        self._follower = Follower(
            self._shadow, name=self.name, producer=self._producer, streams=streams
        )
        self._shadows = [
            Shadow(apps.get_model(consumer.label, model), self._connection)
            for model in projection.models
        ]

    def expected(self) -> int:
        """About what `Progress.events` will come to, for whoever looks how far it is."""
        return self._count()

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

    def fill(self) -> Iterator[Progress]:
        """Begin, or go on where a killed run was, until all is told. Yields how far it is,
        after each chunk."""
        progress = self._kept() or self._begin()
        yield progress
        while not progress.replayed:
            progress = self._fill_chunk(progress)
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

    @abstractmethod
    def described(self, progress: Progress) -> str:
        """In words, what was told."""

    @abstractmethod
    def _begin(self) -> Progress:
        """Make the shadow, give it its positions, and keep the progress, in one transaction."""

    @abstractmethod
    def _can_resume(self, kept: Progress) -> bool:
        """Whether what was begun still holds."""

    @abstractmethod
    def _fill_chunk(self, progress: Progress) -> Progress:
        """Tell the shadow some more, and keep the progress with it."""

    def _kept(self) -> Progress | None:
        """The progress of a run that ended early, if it can be gone on with."""
        row = self._state.first()
        if row is None:
            return None
        kept = Progress(**json.loads(row.value))
        return kept if kept.shape == self._shape() and self._can_resume(kept) else None

    def _place(self, entries: Mapping[int, str]) -> None:
        """The shadow's positions, by partition."""
        self._unplace()
        self._rows(self._tables.position).bulk_create(
            self._tables.position(
                consumer=self._shadow.name,
                producer=self._producer,
                partition=partition,
                entry=entry,
            )
            for partition, entry in entries.items()
        )

    def _unplace(self) -> None:
        for model in (self._tables.position, self._tables.parked):
            self._rows(model).filter(consumer=self._shadow.name).delete()

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
