"""Wraps outbox's functions for the fault matrix: crash points, shorter leases and a shifted
clock. The wrappers are installed only when a process of a cell starts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.db import transaction

from outbox import consumer, recorder, streams
from outbox.consuming import membership, parking, reader
from outbox.management import relay as relay_command
from outbox.publishing import relay, retention, ticks
from tests.faults.matrix.gate import Reach
from tests.support.stranger.shop import consumers

CHUNK_ROWS = 8
BATCH_ENTRIES = 10
PRUNED_ROWS = 40


def shorten_limits() -> None:
    """Sets short leases, and small chunks and batches, so that faults happen between batches."""
    ticks.CHUNK_ROWS = CHUNK_ROWS
    retention.BATCH_ROWS = PRUNED_ROWS
    reader.Reader.__init__.__kwdefaults__["batch_entries"] = BATCH_ENTRIES
    assert "'10s'" in relay.SESSION
    relay.SESSION = relay.SESSION.replace("'10s'", "'3s'")
    relay_command.RETRY_SECONDS = 0.1
    membership.LEASE_SECONDS = 1.0
    reader.CONFIRM_SECONDS = 0.5
    reader.LONGEST_PAUSE_SECONDS = 0.5
    settings.OUTBOX_HANDLER_IDLE_SECONDS = 2
    settings.OUTBOX_RETENTION_SECONDS = 0


def shift_clock(reach: Reach, by_ms: int) -> None:
    """Shifts the relay's clock."""
    relay.Relay = partial(
        relay.Relay, clock_ms=lambda: ticks.clock_ms() + (reach.clock_ms or by_ms)
    )


def plant(point: str, reach: Reach) -> None:
    PLANTS[point](reach)


def _before(owner: Any, name: str, reach: Reach) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _after(
    owner: Any, name: str, reach: Reach, *, only_if: Callable[..., Any] = lambda *_, **__: True
) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if only_if(result, *args, **kwargs):
            reach()
        return result

    setattr(owner, name, wrapped)


def _after_entries(reach: Reach) -> None:
    original = streams.Streams.prepare

    def prepare(self: Any, label: str, **options: Any) -> Callable[[], None]:
        owner = SimpleNamespace(publish=original(self, label, **options))
        if options.get("rows"):
            _after(owner, "publish", reach)
        return owner.publish

    streams.Streams.prepare = prepare


def _before_handler(reach: Reach) -> None:
    handlers = consumers.CONSUMERS["ledger"]
    for type_, handler in list(handlers.items()):
        owner = SimpleNamespace(handler=handler)
        _before(owner, "handler", reach)
        handlers[type_] = owner.handler


def _after_positions(reach: Reach) -> None:
    @contextmanager
    def atomic(*, using: str) -> Iterator[None]:
        with transaction.atomic(using=using):
            yield
        reach()

    reader.transaction = SimpleNamespace(atomic=atomic)


def _between_batches(reach: Reach) -> None:
    # A round reads the clock for its deadline, and again before each batch of rows.
    readings = 0
    raise_floor = retention._raise_floor

    def start_round(*args: Any) -> int:
        nonlocal readings
        readings = 0
        return raise_floor(*args)

    def monotonic() -> float:
        nonlocal readings
        readings += 1
        if readings == 3:
            reach()
        return 0.0

    retention._raise_floor = start_round
    retention.time = SimpleNamespace(monotonic=monotonic, sleep=retention.time.sleep)


PLANTS: dict[str, Callable[[Reach], None]] = {
    "after-row": lambda reach: _after(recorder, "record", reach),
    "after-commit": lambda reach: _before(streams, "nudge", reach),
    "after-tick": lambda reach: _after(
        ticks.Ticks, "make", reach, only_if=lambda made, *_, **__: made
    ),
    "between-chunks": lambda reach: _after(
        relay.Relay,
        "_publish",
        reach,
        only_if=lambda _, __, chunk: streams.order(chunk.at)[1] != streams.WHOLE,
    ),
    "after-entries": _after_entries,
    "after-read": lambda reach: _before(reader.Reader, "_process", reach),
    "before-handler": _before_handler,
    "mid-handler": lambda reach: _after(consumers, "apply", reach),
    "before-positions": lambda reach: _after(consumer.Consumer, "handle_all", reach),
    "after-positions": _after_positions,
    "parking": lambda reach: _after(parking.Parking, "park", reach),
    "retry": lambda reach: _after(consumer.Consumer, "handle", reach),
    "after-floor": lambda reach: _after(
        retention, "_raise_floor", reach, only_if=lambda floor, *_, **__: floor
    ),
    "between-batches": _between_batches,
    "before-xtrim": lambda reach: _before(streams.Streams, "prune", reach),
}
