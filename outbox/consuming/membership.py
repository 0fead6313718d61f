"""Which processes run a consumer: leases on the stream server.

A lease decides which process *should* read a partition; the position decides which one *may* apply
it. So if processes disagree for a moment, or a lease expires or is lost, partitions move to other
processes and no event is lost.
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
LEASE_SECONDS = 2.5  # how long the partitions of a killed process stay unread


class Membership:
    """This process among all those that run one consumer."""

    def __init__(self, group: str, streams: Streams, *, member: str | None = None) -> None:
        self.member = member or uuid4().hex
        self._group = group
        self._streams = streams
        self._members: Collection[str] = ()
        self._is_failing = False
        self._assigned: dict[str, tuple[Collection[str], frozenset[int]]] = {}  # by reader

    def renew(self) -> None:
        """Renew the lease and read the live members. If the server doesn't answer, the last list
        stays valid: where two processes read the same partition, its position fences one."""
        try:
            self._members = self._streams.heartbeat(
                self._group, self.member, lease_seconds=LEASE_SECONDS
            )
            self._is_failing = False
        except OutboxError as exc:
            if not self._is_failing:  # logged once: the readers log that they wait
                log.info("lease of %s not renewed: %s", self._group, exc)
            self._is_failing = True

    def partitions_of(self, reader: str) -> frozenset[int]:
        """The partitions that this process should read for a reader; all of them if it is alone."""
        members = tuple(self._members) or (self.member,)
        known = self._assigned.get(reader)
        if known is None or known[0] != members:
            owners = assign(range(self._streams.partitions), members, of=reader)
            mine = frozenset(p for p, owner in owners.items() if owner == self.member)
            known = self._assigned[reader] = members, mine
        return known[1]

    def run(self, stopping: threading.Event) -> None:
        """Renew the lease until `stopping` is set, then release it, so that the other processes
        take over without waiting for its end."""
        while not stopping.wait(HEARTBEAT_SECONDS):
            self.renew()
        try:
            self._streams.leave(self._group, self.member)
        except OutboxError as exc:
            log.warning("lease of %s not released, it will expire: %s", self._group, exc)
