"""Which replicas may be read from, found out in the background and never by a slow request.

A replica is out while it doesn't answer, isn't a standby, has another system identifier or
timeline than the primary, or is behind by more than the budget; it is back when it has caught
up. How far it is behind is measured by our own clock: how long ago the primary was where the
replica is now.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypedDict

from django.conf import settings

from ..homes import primary
from .lines import switchboard
from .probe import Probe
from .wal import PRIMARY, REPLICA, Wal

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 0.2
ANSWER_WITHIN_SECONDS: Final = 0.5  # a frozen server delays the look at the others by this much
HANG_UP_AFTER: Final = 2  # looks in a row without an answer: one may be a moment's load

NOT_SEEN: Final = "nobody has looked yet"


@dataclass(slots=True)
class Replica:
    """What is known of one replica. Before the first look it isn't read from."""

    alias: str
    healthy: bool = False
    why: str = NOT_SEEN
    lsn: int = 0  # replayed, when last looked
    lag_bytes: int | None = None
    # Where a reader saw it when it had waited in vain: until it moves, nobody waits again.
    stalled_at: int | None = None
    unanswered: int = 0  # looks in a row
    _goal: tuple[int, float] | None = None  # where the primary was, and when

    def judge(
        self, origin: Wal | None, seen: Wal | None, *, now: float, budget_seconds: float
    ) -> None:
        """One look: `origin` is the primary as it was just before, or when it last answered.

        `now` is a monotonic clock's, in seconds.
        """
        self.unanswered = self.unanswered + 1 if seen is None else 0
        if seen is None or origin is None or (fault := _fault(origin, seen)):
            self._goal = self.lag_bytes = None
            if seen is None or origin is None:
                fault = "it doesn't answer" if seen is None else "the primary isn't known yet"
            self.put_out(fault)
            return
        self.lsn, self.lag_bytes = seen.lsn, max(0, origin.lsn - seen.lsn)
        goal, since = self._goal or (origin.lsn, now)
        waited = now - since
        if seen.lsn >= goal:
            self._goal = None if seen.lsn >= origin.lsn else (origin.lsn, now)
            if waited <= budget_seconds:
                self._put_in()
            return
        self._goal = (goal, since)
        if waited > budget_seconds:
            self.put_out(f"{self.lag_bytes} bytes and {waited:.1f} s behind")

    def put_out(self, why: str) -> None:
        if self.healthy:
            logger.warning("replica %s is out: %s", self.alias, why)
        self.healthy, self.why = False, why

    def _put_in(self) -> None:
        if self.why and self.why != NOT_SEEN:
            logger.warning("replica %s is in use again", self.alias)
        self.healthy, self.why = True, ""


def _fault(origin: Wal, seen: Wal) -> str:
    if seen.system != origin.system:
        return "it belongs to another cluster"
    if not seen.in_recovery:
        return "it is no standby (any more)"
    if seen.timeline != origin.timeline:
        return f"it is on timeline {seen.timeline}, the primary on {origin.timeline}"
    return ""


@dataclass(slots=True)
class Group:
    """A service's primary, as last heard of, and its replicas."""

    service: str
    replicas: tuple[Replica, ...]
    origin: Wal | None = None

    def look(self, probes: "Probes") -> None:
        """Ask them all. A primary that doesn't answer leaves the replicas as they are, as long
        as they do: reads go on while it is away."""
        self.origin = probes.ask(primary(self.service), PRIMARY) or self.origin
        for replica in self.replicas:
            seen = probes.ask(replica.alias, REPLICA)
            replica.judge(
                self.origin,
                seen,
                now=time.monotonic(),
                budget_seconds=settings.PLACEMENT_REPLICA_LAG_SECONDS,
            )
            if replica.unanswered >= HANG_UP_AFTER:
                switchboard.hang_up(replica.alias)

    def candidates(self, lsn: int) -> list[Replica]:
        """Those to read from, at random; first those that were seen past `lsn`."""
        fit = [replica for replica in self.replicas if replica.healthy]
        random.shuffle(fit)
        return sorted(fit, key=lambda replica: replica.lsn < lsn)


@dataclass(slots=True)
class Probes:
    """Connections beside Django's, for one thread."""

    _open: dict[str, Probe] = field(default_factory=dict)

    def ask(self, alias: str, statement: str) -> Wal | None:
        probe = self._open.setdefault(alias, Probe(alias))
        return probe.ask(statement, within_seconds=ANSWER_WITHIN_SECONDS)

    def close(self) -> None:
        for probe in self._open.values():
            probe.close()


class Watch:
    """The thread that looks at a process's replicas; it begins with the first read that could
    use one, so a forked worker has its own, and a command that never reads so has none."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._groups: dict[str, Group] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def group(self, service: str) -> Group | None:
        """None for a service without replicas."""
        if service not in settings.PLACEMENT_REPLICAS:
            return None
        if self._thread is None or not self._thread.is_alive():
            self._start()
        return self._groups.get(service)

    def replica(self, alias: str) -> Replica | None:
        return next(
            (r for g in self._groups.values() for r in g.replicas if r.alias == alias), None
        )

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._thread, self._groups = None, {}

    def _start(self) -> None:
        with self._changing:
            if self._thread is None or not self._thread.is_alive():
                self._groups = {
                    service: group_of(service) for service in settings.PLACEMENT_REPLICAS
                }
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=_keep_looking,
                    args=(tuple(self._groups.values()), self._stopping),
                    name=f"replica-watch-{os.getpid()}",
                    daemon=True,
                )
                self._thread.start()


def _keep_looking(groups: Iterable[Group], stopping: threading.Event) -> None:
    probes = Probes()
    try:
        while True:
            for group in groups:
                group.look(probes)
            if stopping.wait(LOOK_EVERY_SECONDS):
                return
    finally:
        probes.close()


def group_of(service: str) -> Group:
    aliases = settings.PLACEMENT_REPLICAS.get(service, ())
    return Group(service=service, replicas=tuple(map(Replica, aliases)))


class ReplicaReport(TypedDict):
    """`lag_bytes` is None for a replica that can't be used."""

    name: str
    lag_bytes: int | None
    healthy: bool


def replica_report(service: str) -> list[ReplicaReport]:
    """The state of each replica, queried now. A replica is healthy if it reaches the primary's
    position of the start of the call within PLACEMENT_REPLICA_LAG_SECONDS."""
    group, probes = group_of(service), Probes()
    if not group.replicas:
        return []
    deadline = time.monotonic() + settings.PLACEMENT_REPLICA_LAG_SECONDS
    lags: dict[str, int | None] = {}
    while True:
        group.look(probes)
        for replica in group.replicas:
            lags.setdefault(replica.alias, replica.lag_bytes)
        waiting = [r for r in group.replicas if not r.healthy and r.lag_bytes is not None]
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    probes.close()
    return [
        {"name": replica.alias, "lag_bytes": lags[replica.alias], "healthy": replica.healthy}
        for replica in group.replicas
    ]


watch = Watch()
