"""Streams in memory, for tests: `OUTBOX_STREAMS_URL = "memory://"`.

`MemoryStreams` passes the same tests as `Streams` (tests/integration/outbox/test_streams.py).
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any

from ..errors import CursorMoved, StreamDamaged, StreamsMisconfigured
from .client import (
    COUNTED_AT_ONCE,
    WHOLE,
    Batch,
    Confirmation,
    Cursor,
    Entry,
    Size,
    order,
    row_outside,
)
from .facts import Facts

EMPTY = Cursor(at="", tops={})


@dataclass(slots=True)
class _Service:
    cursor: Cursor = EMPTY
    partitions: int | None = None
    streams: dict[int, list[tuple[str, bytes]]] = field(default_factory=dict)
    added: Counter[int] = field(default_factory=Counter)  # by partition
    nudged: bool = False
    confirmed: dict[str, dict[int, int]] = field(default_factory=dict)
    confirmed_at: dict[str, datetime] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)


class MemoryStreams:
    """Keeps the streams of all services in this process's memory. Threads can share an instance."""

    def __init__(self, *, partitions: int = 16) -> None:
        self.partitions = partitions
        self._services: dict[str, _Service] = defaultdict(_Service)
        self._changed = threading.Condition()

    def close(self) -> None:
        self._services.clear()

    def check(self) -> None:
        """Does nothing: streams in memory need no configuration."""

    def facts(self) -> Facts:
        """Those of this class."""
        return Facts(name="memory", version="", policy="noeviction", persists=False)

    def check_rights(self, label: str) -> None:
        """Does nothing: every thread may use all streams."""

    def can_write(self, label: str) -> bool:
        return False  # no other deployment uses these streams

    def is_reachable(self, label: str | None = None) -> bool:
        return True

    def ping(self, label: str) -> None:
        """Does nothing: streams in memory are always there."""

    def flush(self) -> None:
        """Delete all data, as FLUSHALL does."""
        with self._changed:
            self._services.clear()

    def drop(self, label: str, partition: int) -> None:
        """Delete one stream."""
        with self._changed:
            service = self._services[label]
            service.streams.pop(partition, None)
            service.added.pop(partition, None)

    def cursor(self, label: str) -> Cursor:
        with self._changed:
            service = self._services[label]
            self._refuse_other_partitions(service)
            return service.cursor

    def peek_cursor(self, label: str) -> Cursor:
        return self.cursor(label)

    def publish(self, label: str, **publication: Any) -> None:
        self.prepare(label, **publication)()

    def prepare(self, label: str, **publication: Any) -> Callable[[], None]:
        return partial(self._publish, label, **publication)

    def _publish(
        self,
        label: str,
        *,
        expected: str,
        at: str,
        tick: int,
        rows: Sequence[tuple[int, int, str]] = (),
        snapshot: str = "",
        origin: str = "",
        floor: int = 0,
    ) -> None:
        with self._changed:
            service = self._services[label]
            cursor = service.cursor
            if cursor.at != expected:
                raise CursorMoved(cursor.at)
            self._refuse_other_partitions(service)
            for partition in sorted(cursor.tops):
                if partition not in service.streams:
                    raise StreamDamaged(_stream(label, partition), foreign=False)
            for row, partition, body in rows:
                if partition >= self.partitions:
                    raise row_outside(row, partition, self.partitions)
                _add(label, service, partition, f"{tick}-{row}", body)
            tops = {partition: f"{tick}-{row}" for row, partition, _ in rows}
            cursor = replace(cursor, at=at, tops=_raised(cursor.tops, tops))
            if not expected:
                cursor = replace(cursor, floor=max(cursor.floor, floor))
            if snapshot:
                cursor = replace(cursor, complete=tick, snapshot=snapshot, origin=origin)
            service.cursor, service.partitions = cursor, self.partitions
            self._changed.notify_all()

    def rewind(self, label: str, *, expected: str, drop: str | None = None) -> None:
        with self._changed:
            service = self._services[label]
            if service.cursor.at == expected:
                if drop is not None:
                    partition = int(drop.rpartition(":")[2])
                    service.streams.pop(partition, None)
                    service.added.pop(partition, None)
                kept = {p: top for p, top in service.cursor.tops.items() if p in service.streams}
                service.cursor = replace(EMPTY, floor=service.cursor.floor, tops=kept)

    def wait_nudge(self, label: str, *, timeout_seconds: float) -> bool:
        with self._changed:
            service = self._services[label]
            nudged = self._changed.wait_for(lambda: service.nudged, timeout_seconds)
            service.nudged = False
            return nudged

    def nudge(self, label: str) -> bool:
        with self._changed:
            self._services[label].nudged = True
            self._changed.notify_all()
        return True

    def open_nudge_connection(self) -> "MemoryNudges":
        return MemoryNudges(self)

    def add_foreign(self, label: str, partition: int, entry_id: str, body: bytes) -> None:
        """Add an entry without moving the cursor, as another process could."""
        with self._changed:
            self._services[label].streams.setdefault(partition, []).append((entry_id, body))
            self._changed.notify_all()

    def read(
        self, label: str, after: Mapping[int, str], *, count: int, block_seconds: float
    ) -> Batch | None:
        deadline = time.monotonic() + block_seconds
        with self._changed:
            while not (found := self._following(label, after, count)):
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
            cursor = self._services[label].cursor
            return Batch([entry for entry in found if _confirmed(entry, cursor)], cursor)

    def entries_after(self, label: str, tick: int) -> Iterator[Entry]:
        start = dict.fromkeys(range(self.partitions), f"{tick}-{WHOLE}")
        with self._changed:
            cursor = self._services[label].cursor
            found = self._following(label, start, 1 << 62)
        yield from (entry for entry in found if _confirmed(entry, cursor))

    def entries_of(
        self, label: str, partition: int, *, after: str = "0-0", upto: str = "+"
    ) -> Iterator[Entry]:
        with self._changed:
            found = self._following(label, {partition: after}, 1 << 62)
        yield from (e for e in found if upto == "+" or order(e.id) <= order(upto))

    def delete(self, label: str, partition: int, ids: Sequence[str]) -> int:
        with self._changed:
            stream = self._services[label].streams.get(partition, [])
            kept = [item for item in stream if item[0] not in ids]
            deleted = len(stream) - len(kept)
            stream[:] = kept
        return deleted

    def confirm(self, label: str, subscriber: str, ticks: Mapping[int, int]) -> None:
        with self._changed:
            self._services[label].confirmed.setdefault(subscriber, {}).update(ticks)
            self._services[label].confirmed_at[subscriber] = datetime.now(UTC)

    def confirmations(
        self, label: str, *, subscribers: Collection[str] = (), services: Collection[str] = ()
    ) -> dict[str, Confirmation]:
        with self._changed:
            service = self._services[label]
            return {
                name: Confirmation(ticks=dict(ticks), at=service.confirmed_at[name])
                for name, ticks in service.confirmed.items()
            }

    def confirmed_at(self, label: str, subscribers: Collection[str]) -> dict[str, datetime]:
        with self._changed:
            known = self._services[label].confirmed_at
            return {name: known[name] for name in subscribers if name in known}

    def forget(self, label: str, subscriber: str) -> None:
        with self._changed:
            self._services[label].confirmed.pop(subscriber, None)
            self._services[label].confirmed_at.pop(subscriber, None)

    def heartbeat(self, group: str, member: str, *, lease_seconds: float) -> list[str]:
        with self._changed:
            leases, now = self._services[group].leases, time.monotonic()
            for ended in [name for name, end in leases.items() if end <= now]:
                del leases[ended]
            leases[member] = now + lease_seconds
            return sorted(leases)

    def members(self, group: str) -> list[str]:
        with self._changed:
            leases = self._services[group].leases.items()
            return sorted(name for name, end in leases if end > time.monotonic())

    def leave(self, group: str, member: str) -> None:
        with self._changed:
            self._services[group].leases.pop(member, None)

    def prune(self, label: str, *, floor: int) -> None:
        with self._changed:
            service = self._services[label]
            service.cursor = replace(service.cursor, floor=max(service.cursor.floor, floor))
            for stream in service.streams.values():
                stream[:] = [item for item in stream if order(item[0])[0] > floor]

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
        return sum(size.entries for size in self.sizes(label))

    def sizes(self, label: str) -> list[Size]:
        with self._changed:
            service = self._services[label]
            return [
                Size(len(service.streams.get(partition, ())), service.added[partition])
                for partition in range(self.partitions)
            ]

    def count_after(
        self, label: str, after: Mapping[int, str], *, at_most: int | None = None
    ) -> tuple[int, str]:
        most = 1 << 62
        if at_most is not None:  # the real server counts in whole steps
            most = ceil(at_most / COUNTED_AT_ONCE) * COUNTED_AT_ONCE
        with self._changed:
            ids = [entry.id for entry in self._following(label, after, most)]
        return len(ids), min(ids, key=order, default="")

    def oldest_after(self, label: str, after: Mapping[int, str]) -> str:
        with self._changed:
            found = self._following(label, after, 1)
        return min((entry.id for entry in found), key=order, default="")

    def _refuse_other_partitions(self, service: _Service) -> None:
        if service.partitions not in (None, self.partitions):
            raise StreamsMisconfigured(
                f"the streams have {service.partitions} partitions and OUTBOX_PARTITIONS is "
                f"{self.partitions}; set it to {service.partitions}"
            )


class MemoryNudges:
    """Sends nudges to streams in memory, as a `NudgeConnection` does to a server."""

    def __init__(self, streams: MemoryStreams) -> None:
        self._streams = streams

    def send(self, label: str) -> None:
        self._streams.nudge(label)

    def close(self) -> None:
        """Does nothing: there is no connection."""


def _raised(tops: Mapping[int, str], new: Mapping[int, str]) -> dict[int, str]:
    """The tops with the new ones; an entry that is sent again lowers no top."""
    return {**new, **{p: max(top, new.get(p, top), key=order) for p, top in tops.items()}}


def _add(label: str, service: _Service, partition: int, entry_id: str, body: str) -> None:
    stream = service.streams.setdefault(partition, [])
    if not stream or order(entry_id) > order(stream[-1][0]):
        stream.append((entry_id, body.encode()))
        service.added[partition] += 1
    elif not any(entry_id == present for present, _ in stream):
        raise StreamDamaged(_stream(label, partition), foreign=True)


def _confirmed(entry: Entry, cursor: Cursor) -> bool:
    top = cursor.tops.get(entry.partition)
    return top is not None and order(entry.id) <= order(top)


def _stream(label: str, partition: int) -> str:
    return f"{{{label}}}:events:{partition}"
