"""For the tests of a project that uses the outbox: a stream server in memory, and two helpers.

`MemoryStreams` passes the behaviour suite of the real `Streams` (tests/integration/outbox).
"""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import consumer as consuming
from .envelope import Envelope
from .errors import CursorMoved, StreamDamaged, StreamsMisconfigured
from .models import AbstractOutboxEvent
from .streams import Cursor, Entry, order


@dataclass(slots=True)
class _Service:
    at: str = ""
    tops: dict[int, str] = field(default_factory=dict)
    snapshot: str = ""
    origin: str = ""
    partitions: int | None = None
    streams: dict[int, list[tuple[str, bytes]]] = field(default_factory=dict)
    nudges: list[str] = field(default_factory=list)


class MemoryStreams:
    """The streams of all services in this process's memory, safe to share between threads."""

    def __init__(self, *, partitions: int = 16) -> None:
        self.partitions = partitions
        self._services: dict[str, _Service] = defaultdict(_Service)
        self._changed = threading.Condition()

    def close(self) -> None:
        self._services.clear()

    def check(self) -> None:
        """Always fit."""

    def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        with self._changed:
            self._services.clear()

    def drop(self, label: str, partition: int) -> None:
        """Lose one stream."""
        with self._changed:
            self._services[label].streams.pop(partition, None)

    def cursor(self, label: str) -> Cursor:
        with self._changed:
            held = self._services[label]
            self._refuse_other_partitions(held)
            return Cursor(
                at=held.at, tops=dict(held.tops), snapshot=held.snapshot, origin=held.origin
            )

    def publish(
        self,
        label: str,
        *,
        expected: str,
        at: str,
        tick: int,
        rows: Sequence[tuple[int, int, str]] = (),
        snapshot: str = "",
        origin: str = "",
    ) -> None:
        with self._changed:
            held = self._services[label]
            if held.at != expected:
                raise CursorMoved(held.at)
            self._refuse_other_partitions(held)
            for partition in sorted(held.tops):
                if partition not in held.streams:
                    raise StreamDamaged(_stream(label, partition), foreign=False)
            tops = {}
            for row, partition, body in rows:
                entry_id = f"{tick}-{row}"
                stream = held.streams.setdefault(partition, [])
                if not stream or order(entry_id) > order(stream[-1][0]):
                    stream.append((entry_id, body.encode()))
                elif not any(entry_id == present for present, _ in stream):
                    raise StreamDamaged(_stream(label, partition), foreign=True)
                tops[partition] = entry_id
            held.at, held.partitions = at, self.partitions
            held.tops.update(tops)
            if snapshot:
                held.snapshot, held.origin = snapshot, origin
            self._changed.notify_all()

    def rewind(self, label: str, *, expected: str, drop: str | None = None) -> None:
        with self._changed:
            held = self._services[label]
            if held.at == expected:
                if drop is not None:
                    held.streams.pop(int(drop.rpartition(":")[2]), None)
                held.at = held.snapshot = held.origin = ""
                held.tops.clear()

    def wait_nudge(self, label: str, *, timeout_seconds: float) -> str:
        with self._changed:
            self._changed.wait_for(lambda: self._services[label].nudges, timeout_seconds)
            nudges = self._services[label].nudges
            return nudges.pop(0) if nudges else ""

    def nudge(self, label: str, word: str = "go") -> bool:
        with self._changed:
            if not self._services[label].nudges:
                self._services[label].nudges.append(word)
                self._changed.notify_all()
        return True

    def add_foreign(self, label: str, partition: int, entry_id: str, body: bytes) -> None:
        """Add an entry as a stranger would, past the cursor."""
        with self._changed:
            self._services[label].streams.setdefault(partition, []).append((entry_id, body))
            self._changed.notify_all()

    def read(
        self, label: str, after: Mapping[int, str], *, count: int, block_seconds: float
    ) -> list[Entry]:
        deadline = time.monotonic() + block_seconds
        with self._changed:
            while not (found := self._following(label, after, count)):
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return []
            tops = self._services[label].tops
            return [
                entry
                for entry in found
                if entry.partition in tops and order(entry.id) <= order(tops[entry.partition])
            ]

    def _following(self, label: str, after: Mapping[int, str], count: int) -> list[Entry]:
        streams = self._services[label].streams
        return [
            Entry(partition, entry_id, body)
            for partition, position in after.items()
            for entry_id, body in [
                item for item in streams.get(partition, []) if order(item[0]) > order(position)
            ][:count]
        ]

    def entries(self, label: str) -> int:
        with self._changed:
            return sum(len(stream) for stream in self._services[label].streams.values())

    def behind(self, label: str, after: Mapping[int, str]) -> tuple[int, str]:
        with self._changed:
            ids = [entry.id for entry in self._following(label, after, 1 << 62)]
        return len(ids), min(ids, key=order, default="")

    def _refuse_other_partitions(self, held: _Service) -> None:
        if held.partitions not in (None, self.partitions):
            raise StreamsMisconfigured(
                f"the streams have {held.partitions} partitions and OUTBOX_PARTITIONS is "
                f"{self.partitions}"
            )


def _stream(label: str, partition: int) -> str:
    return f"{{{label}}}:events:{partition}"


def published(model: type[AbstractOutboxEvent]) -> list[Envelope]:
    """All events recorded in a service's outbox, decoded, in the order of their rows."""
    return [
        Envelope.decode(body)
        for body in model._default_manager.order_by("id").values_list("body", flat=True)
    ]


def deliver(envelope: Envelope, *, consumer: str) -> None:
    """Apply one event to a consumer by name, as its reader would, without a stream."""
    consuming.named(consumer).handle(Envelope.decode(envelope.encode()))
