"""Rebuilds a projection next to the projection in use, and swaps the two.

The shadow is a normal consumer with its own positions, such as `order_view.next`. sources.py fills
the shadow, which then follows the streams, but only up to the positions of the live projection. At
the swap, both have the same positions, so readers never see older data. Of the service's code, a
rebuild calls only the projection's functions. See docs/adr/0011-rebuilds.md.
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

from .. import drivers
from ..consumer import NEXT, Consumer
from ..consuming.parking import one_line
from ..consuming.reader import is_transient
from ..errors import RebuildRefused, Unconfigured
from ..projection import Copy, Projection
from ..streams import Streams
from .follower import Follower
from .shadow import SUFFIX, Differences, Shadow, swap_statements

LIVE_SECONDS = 10.0  # how long a comparison waits for the live consumer to reach the shadow
HOLD_SECONDS = 0.5  # between two rounds of `follow_until`
SWAP_LOCK_MS = 25  # readers wait behind a waiting swap; after this time, the swap stops waiting
SWAP_SECONDS = 120.0  # after this time, a swap fails
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a rebuild: a state row that is committed together with the work."""

    shape: list[str]  # hashes of the live tables' definitions at the start
    tick: int = 0  # the rebuild replays the stored events that this tick's snapshot sees
    snapshot: str = ""
    after: str = ""
    events: int = 0
    replayed: bool = False


class Rebuild(ABC):
    """A rebuild, to be used inside `locked()`. After a killed run, the next run continues."""

    def __init__(self, consumer: Consumer, projection: Projection | Copy, streams: Streams) -> None:
        if len(consumer.producers) != 1:
            raise Unconfigured(f"{consumer.name} can't be rebuilt: it must read only one producer")
        (self._producer,) = consumer.producers
        self.name = consumer.name
        self.locked_ms = 0.0  # how long the swap blocked readers
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
        """The approximate value of `Progress.events` at the end."""
        return self._count()

    @contextmanager
    def locked(self) -> Iterator["Rebuild"]:
        """Prevent other rebuilds of this projection, with the rights of the tables' owner. Raises
        RebuildRefused if another one runs."""
        with self._tables.as_owner():
            yield from self._locked()

    def _locked(self) -> Iterator["Rebuild"]:
        key = f"outbox.rebuild:{self._shadow.subscriber}"
        # A session lock ends together with the connection that does the work.
        if not self._query("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key):
            raise RebuildRefused(f"another rebuild of {self.name} is running")
        try:
            self._query("SELECT set_config('statement_timeout', '0', false)")
            yield self
        finally:
            if self._connection.is_usable():
                self._query("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", key)
                with self._connection.cursor() as cursor:
                    cursor.execute("RESET statement_timeout")

    # -- the steps, in their order -------------------------------------------------------

    def fill(self) -> Iterator[Progress]:
        """Fill the shadow from the start, or continue a killed run. Yields the progress before the
        first chunk and after each chunk."""
        progress = self._saved() or self._start()
        yield progress
        while not progress.replayed:
            progress = self._fill_chunk(progress)
            yield progress
        for shadow in self._shadows:
            shadow.index()

    def follow(self) -> None:
        """Apply to the shadow all events that the live consumer has applied."""
        with transaction.atomic(using=self._tables.alias):
            self._follower.catch_up()
            self._subscription.update(confirmed=self._follower.last_complete_tick())

    def follow_until(self, stopping: threading.Event) -> None:
        """Keep the shadow up to date until `stopping` is set."""
        while not stopping.wait(HOLD_SECONDS):
            self.follow()

    def compare(self) -> list[Differences] | None:
        """Find the rows that differ although both tables contain the same events: rows that are
        damaged, or that this release writes differently. None if the live consumer stays behind.

        The live consumer is paused until the shadow has caught up and a snapshot of both is taken.
        """
        deadline = time.monotonic() + LIVE_SECONDS
        while not self._follower.live_has_caught_up():
            if time.monotonic() > deadline:
                return None
            time.sleep(FIRST_PAUSE_SECONDS)
        self.follow()
        with ExitStack() as pause:
            pause.enter_context(self._follower.paused())
            self.follow()
            with self._repeatable_read():
                self._query("SELECT 1")  # the first query takes the snapshot
                pause.close()
                return [shadow.differences() for shadow in self._shadows]

    def swap(self) -> None:
        """Replace the projection's tables and positions with the shadow's. Raises RebuildRefused if
        the tables stay in use for SWAP_SECONDS."""
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
                        f"{one_line(exc)}; run the rebuild again to continue at the swap"
                    ) from exc
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._drop_tables()

    def drop(self) -> None:
        """Discard the rebuild: delete the shadow's tables, and its rows in the outbox tables."""
        with transaction.atomic(using=self._tables.alias):
            self._delete_all_rows()
            self._drop_tables()

    # -- parts of the steps --------------------------------------------------------------

    @abstractmethod
    def summary(self, progress: Progress) -> str:
        """Describe, for the operator, the source of the shadow's data."""

    @abstractmethod
    def _start(self) -> Progress:
        """Create the shadow, and save its positions and the progress, in one transaction."""

    @abstractmethod
    def _can_resume(self, saved: Progress) -> bool:
        """Whether the shadow of an earlier run can still be completed."""

    @abstractmethod
    def _fill_chunk(self, progress: Progress) -> Progress:
        """Write the next chunk to the shadow, and save the progress in the same transaction."""

    def _saved(self) -> Progress | None:
        """Return the progress of an interrupted run, or None if no run can be resumed."""
        row = self._state.first()
        if row is None:
            return None
        saved = Progress(**json.loads(row.value))
        return saved if saved.shape == self._shape() and self._can_resume(saved) else None

    def _set_positions(self, entries: Mapping[int, str]) -> None:
        """Set the shadow's position in each partition, and delete the shadow's parked events."""
        self._delete_consumer_rows()
        self._rows(self._tables.position).bulk_create(
            self._tables.position(
                consumer=self._shadow.name,
                producer=self._producer,
                partition=partition,
                entry=entry,
            )
            for partition, entry in entries.items()
        )

    def _delete_consumer_rows(self) -> None:
        for model in (self._tables.position, self._tables.parked):
            self._rows(model).filter(consumer=self._shadow.name).delete()

    def _swap_once(self) -> None:
        with transaction.atomic(using=self._tables.alias):
            # Lock the live positions first: a consumer that waits for them has locked no table yet.
            self._follower.catch_up(hold=True)
            self._follower.transfer_positions()
            self._delete_all_rows()
            self._query("SELECT set_config('lock_timeout', %s, true)", f"{SWAP_LOCK_MS}ms")
            swap = "; ".join(swap_statements(self._shadows))
            started = time.perf_counter()
            with self._connection.cursor() as cursor:
                drivers.execute(cursor, swap)
        self.locked_ms = (time.perf_counter() - started) * 1000

    def _delete_all_rows(self) -> None:
        """Within a transaction, delete the shadow's rows in the outbox tables."""
        self._delete_consumer_rows()
        self._state.delete()
        self._subscription.delete()

    def _drop_tables(self) -> None:
        with transaction.atomic(using=self._tables.alias):
            for shadow in self._shadows:
                shadow.drop()

    def _save(self, progress: Progress) -> None:
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

    def _query(self, sql: str, *values: str) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchone()[0]
