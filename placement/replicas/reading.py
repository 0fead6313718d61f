"""Where the reads of one request go: a replica that has what the client wrote, or the primary.

Outside a request (commands, consumers, tasks that were sent without a token) there is no
`Reading`, and everything is read from the primary.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.db import Error, connections

from ..events import last_xid
from ..homes import primary
from .tokens import Part, Token
from .wal import PRIMARY, REPLAYED, Wal, ask
from .watch import Replica, watch

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.05  # for a replica to catch up with a token; then the primary
FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.008


@dataclass(slots=True, kw_only=True)
class Reading:
    """One request's, or one task's. A service's replica is chosen once, at its first read."""

    token: Token = field(default_factory=Token)
    unreadable: bool = False  # something was presented that is no token
    from_replicas: bool = True
    chosen: dict[str, str | None] = field(default_factory=dict)  # None: the primary
    written: set[str] = field(default_factory=set)
    distrusted: set[str] = field(default_factory=set)  # services whose part is of no use
    headers: dict[str, str] = field(default_factory=dict)  # what the answer says of the reading

    def replica_of(self, service: str) -> str | None:
        """The replica's alias; None for the primary."""
        if not self.from_replicas or service in self.written:
            return None
        if service not in self.chosen:
            self.chosen[service] = self._choose(service)
        return self.chosen[service]

    @property
    def replicas(self) -> tuple[str, ...]:
        """Those that were read from."""
        return tuple(filter(None, self.chosen.values()))

    def renewed(self) -> Token | None:
        """The client's token with the place of its writes, and of what replaces a useless part;
        None if nothing was written and nothing replaced. Call it after the commit."""
        renewed = self.token.without(self.distrusted)
        fresh = self.written | self.distrusted
        for service in fresh:
            if service in settings.PLACEMENT_HOMES and (part := _part_of(service)):
                renewed = renewed.joined(Token({service: part}))
        return renewed if fresh else None

    def _choose(self, service: str) -> str | None:
        group = watch.group(service)
        if group is None or group.origin is None:
            return None
        part = self.token.parts.get(service)
        if self.unreadable or (part and not _is_of(part, group.origin)):
            self.distrusted.add(service)
            return None
        lsn = part.lsn if part else 0
        behind: list[tuple[int, Replica]] = []
        for replica in group.candidates(lsn):
            seen = _look(replica)
            if seen is None or not seen.in_recovery or seen.system != group.origin.system:
                replica.put_out("a request found it gone, or another server in its place")
            elif seen.lsn >= lsn:
                return replica.alias
            else:
                behind.append((seen.lsn, replica))
        if behind and (found := _first_to_reach(lsn, behind)):
            return found
        if lsn > group.origin.lsn and _is_of_the_future(service, lsn):
            self.distrusted.add(service)
        return None


def _part_of(service: str) -> Part | None:
    """Where the service's primary is now. The flushed LSN: see `wal.PRIMARY`."""
    try:
        wal = ask(primary(service), PRIMARY)
    except Error:
        logger.warning("%s is written, but no token can be given", service, exc_info=True)
        return None
    return Part(system=wal.system, timeline=wal.timeline, lsn=wal.lsn, xid=last_xid(service))


def _is_of(part: Part, origin: Wal) -> bool:
    return (part.system, part.timeline) == (origin.system, origin.timeline)


def _look(replica: Replica) -> Wal | None:
    """None if it can't be asked. A connection kept from before the server's last restart is
    replaced; inside a request no other is, so what was seen stays true of what is read. Whoever
    was let go from a frozen server doesn't call it again."""
    kept = connections[replica.alias].connection is not None
    try:
        return ask(replica.alias, REPLAYED)
    except Error:
        connections[replica.alias].close()
        return _look(replica) if kept and replica.healthy else None


def _first_to_reach(lsn: int, behind: list[tuple[int, Replica]]) -> str | None:
    """Wait for the one that is farthest, unless somebody did so in vain and it hasn't moved."""
    place, replica = max(behind, key=lambda pair: pair[0])
    if place == replica.stalled_at:
        return None
    seen = _wait(replica.alias, lsn)
    if seen is not None and seen.lsn >= lsn:
        return replica.alias
    replica.stalled_at = place if seen is None else seen.lsn
    return None


def _wait(alias: str, lsn: int) -> Wal | None:
    """How far it is once it is at `lsn`, or when the time is over; None if it went away."""
    deadline = time.monotonic() + WAIT_SECONDS
    pause = FIRST_PAUSE_SECONDS
    while True:
        time.sleep(pause)
        try:
            seen = ask(alias, REPLAYED)
        except Error:
            connections[alias].close()
            return None
        if seen.lsn >= lsn or time.monotonic() + pause > deadline:
            return seen
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _is_of_the_future(service: str, lsn: int) -> bool:
    return ask(primary(service), PRIMARY).lsn < lsn


_current: ContextVar[Reading | None] = ContextVar("placement_reading", default=None)


def current() -> Reading | None:
    return _current.get()


@contextmanager
def opened(reading: Reading) -> Iterator[Reading]:
    """What is read inside is placed by `reading`."""
    before = _current.set(reading)
    try:
        yield reading
    finally:
        _current.reset(before)


def enter(reading: Reading | None) -> None:
    """For those who can't wrap what they call, such as Celery's signals. None ends it."""
    _current.set(reading)
