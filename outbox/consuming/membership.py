"""Who consumes beside us: leases on the stream server.

A lease decides who *should* read a partition; the position decides who *may* apply it. So
processes that disagree for a moment, a lease that ran out unnoticed or a server that lost them
all cost a reshuffle, never an event.
"""

import logging
import threading
from collections.abc import Collection
from uuid import uuid4

from ..errors import OutboxError
from ..streams import Streams
from .assignment import assign

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.25
LEASE_SECONDS = 2.5  # how long a killed process's partitions stay unread


class Membership:
    """This process among all those that run one consumer."""

    def __init__(self, group: str, streams: Streams, *, member: str | None = None) -> None:
        self.member = member or uuid4().hex
        self._group = group
        self._streams = streams
        self._living: Collection[str] = ()
        self._silent = False
        self._assigned: dict[str, tuple[Collection[str], frozenset[int]]] = {}  # by reader

    def beat(self) -> None:
        """Renew the lease and learn who lives. With the server away the last answer stands:
        what two processes then read alike, the positions keep from being applied twice."""
        try:
            self._living = self._streams.heartbeat(
                self._group, self.member, lease_seconds=LEASE_SECONDS
            )
            self._silent = False
        except OutboxError as exc:
            if not self._silent:
                # The readers say that they wait; nobody needs to hear it twice.
                log.info("no heartbeat of %s: %s", self._group, exc)
            self._silent = True

    def partitions_of(self, reader: str) -> frozenset[int]:
        """The partitions that this process should read for a reader; all of them while alone."""
        living = tuple(self._living) or (self.member,)
        known = self._assigned.get(reader)
        if known is None or known[0] != living:
            owners = assign(range(self._streams.partitions), living, of=reader)
            mine = frozenset(p for p, owner in owners.items() if owner == self.member)
            known = self._assigned[reader] = living, mine
        return known[1]

    def keep(self, stopping: threading.Event) -> None:
        """Beat until told to stop, then leave at once, so that nobody waits for the lease."""
        while not stopping.wait(HEARTBEAT_SECONDS):
            self.beat()
        try:
            self._streams.leave(self._group, self.member)
        except OutboxError as exc:
            log.warning("the lease of %s runs out by itself: %s", self._group, exc)
