"""Leases on the stream server, which show the processes that run a consumer.

A lease decides which process *should* read a partition. The position decides which process *may*
apply the events. If processes disagree for a moment, or if a lease expires or is lost, partitions
move to other processes, and no event is lost.
"""

import logging
import threading
from collections.abc import Collection
from uuid import uuid4

from .. import progress
from ..errors import OutboxError
from ..streams import Streams
from .assignment import assign

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.25
LEASE_SECONDS = 2.5  # other processes read the partitions of a killed process after this time


class Membership:
    """This process, as a member of one consumer."""

    def __init__(self, group: str, streams: Streams, *, member: str | None = None) -> None:
        self.member = member or uuid4().hex
        self._group = group
        self._streams = streams
        self._members: Collection[str] = ()
        self._is_failing = False
        self._assigned: dict[str, tuple[Collection[str], frozenset[int]]] = {}  # by reader

    def renew(self) -> None:
        """Renew the lease and read the list of live members. If the server doesn't answer, the last
        list stays valid: if two processes read a partition, its position fences one of the two."""
        try:
            self._members = self._streams.heartbeat(
                self._group, self.member, lease_seconds=LEASE_SECONDS
            )
            self._is_failing = False
        except OutboxError as exc:
            if not self._is_failing:  # logged once: the readers also log the failure
                log.info("the lease of %s wasn't renewed: %s", self._group, exc)
            self._is_failing = True

    def partitions_of(self, reader: str) -> frozenset[int]:
        """Return the partitions of `reader` in this process. A single member has all partitions."""
        members = tuple(self._members) or (self.member,)
        known = self._assigned.get(reader)
        if known is None or known[0] != members:
            owners = assign(range(self._streams.partitions), members, of=reader)
            mine = frozenset(p for p, owner in owners.items() if owner == self.member)
            known = self._assigned[reader] = members, mine
        return known[1]

    def run(self, stopping: threading.Event) -> None:
        """Renew the lease until `stopping` is set. Then, or after an error, release the lease, so
        that the other processes take over before it expires."""
        try:
            while not stopping.wait(HEARTBEAT_SECONDS):
                self.renew()
                progress.report(f"lease of {self._group}")
        finally:
            self._release()

    def _release(self) -> None:
        try:
            self._streams.leave(self._group, self.member)
        except OutboxError as exc:
            log.warning("the lease of %s wasn't released and will expire: %s", self._group, exc)
