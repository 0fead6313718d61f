"""Chooses where a request reads: a replica that has reached the request's token, or the primary.

Outside a request (commands, consumers, tasks without a token) there is no `Reading`, and all reads
use the primary.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from django.db import Error, connections

from ..events import last_xid
from ..homes import OTHERS, homes, primary
from .tokens import Part, Token
from .wal import PRIMARY, REPLAYED, Wal, ask
from .watch import Replica, watch

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.05  # how long a read waits for a replica; then it uses the primary
FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.008


@dataclass(slots=True, kw_only=True)
class Reading:
    """The state of one request or task. The first read of a service chooses a replica for it."""

    token: Token = field(default_factory=Token)
    unreadable: bool = False  # the request's token can't be parsed
    from_replicas: bool = True
    chosen: dict[str, str | None] = field(default_factory=dict)  # None: the primary
    written: set[str] = field(default_factory=set)
    distrusted: set[str] = field(default_factory=set)  # services whose part can't be used
    headers: dict[str, str] = field(default_factory=dict)  # for the response

    def replica_of(self, service: str) -> str | None:
        """Return the alias of the replica to read, or None for the primary."""
        if not self.from_replicas or service in self.written:
            return None
        if service not in self.chosen:
            self.chosen[service] = self._choose(service)
        return self.chosen[service]

    @property
    def replicas(self) -> tuple[str, ...]:
        """The aliases of the replicas that were chosen."""
        return tuple(filter(None, self.chosen.values()))

    def renewed_token(self) -> Token | None:
        """The client's token, with new positions of the services that were written to or whose part
        is unusable; None if there are no such services. Call this method after the commit."""
        token = self.token.without(self.distrusted)
        outdated = self.written | self.distrusted
        for service in outdated:
            if service in (OTHERS, *homes()) and (part := _current_part(service)):
                token = token.joined(Token({service: part}))
        return token if outdated else None

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
            seen = _query(replica)
            if seen is None or not seen.in_recovery or seen.system != group.origin.system:
                replica.eject("a request found no server, or another server, at its address")
            elif seen.lsn >= lsn:
                return replica.alias
            else:
                behind.append((seen.lsn, replica))
        if behind and (found := _first_to_reach(lsn, behind)):
            return found
        if lsn > group.origin.lsn and _is_in_the_future(service, lsn):
            self.distrusted.add(service)
        return None


def _current_part(service: str) -> Part | None:
    """The position of the service's primary; None if the primary doesn't answer, or has no
    positions, as SQLite in a project's tests."""
    if connections[primary(service)].vendor != "postgresql":
        return None
    try:
        wal = ask(primary(service), PRIMARY)
    except Error:
        logger.warning("%s: this write gets no token: the query failed", service, exc_info=True)
        return None
    return Part(system=wal.system, timeline=wal.timeline, lsn=wal.lsn, xid=last_xid(service))


def _is_of(part: Part, origin: Wal) -> bool:
    return (part.system, part.timeline) == (origin.system, origin.timeline)


def _query(replica: Replica) -> Wal | None:
    """Return the replica's position, or None if the query fails. A new connection replaces a
    broken connection. Later reads of the request use the same connection, so they see this
    position. After `disconnect` the replica isn't healthy, and no new connection is opened."""
    kept = connections[replica.alias].connection is not None
    try:
        return ask(replica.alias, REPLAYED)
    except Error:
        connections[replica.alias].close()
        return _query(replica) if kept and replica.healthy else None


def _first_to_reach(lsn: int, behind: list[tuple[int, Replica]]) -> str | None:
    """Wait for the most advanced replica, unless it hasn't moved since a wait for it failed."""
    lsn_seen, replica = max(behind, key=lambda pair: pair[0])
    if lsn_seen == replica.stalled_at:
        return None
    seen = _wait(replica.alias, lsn)
    if seen is not None and seen.lsn >= lsn:
        return replica.alias
    replica.stalled_at = lsn_seen if seen is None else seen.lsn
    return None


def _wait(alias: str, lsn: int) -> Wal | None:
    """Wait at most WAIT_SECONDS for `lsn`. Returns the replica's position; None after an error."""
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


def _is_in_the_future(service: str, lsn: int) -> bool:
    return ask(primary(service), PRIMARY).lsn < lsn


_current: ContextVar[Reading | None] = ContextVar("placement_reading", default=None)


def current() -> Reading | None:
    return _current.get()


@contextmanager
def use(reading: Reading) -> Iterator[Reading]:
    """Within the block, `reading` chooses the server of each read."""
    before = _current.set(reading)
    try:
        yield reading
    finally:
        _current.reset(before)


def set_current(reading: Reading | None) -> None:
    """Set the Reading in Celery's signals, which can't use a `with` block. None removes it."""
    _current.set(reading)
