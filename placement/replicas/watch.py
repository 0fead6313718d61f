"""A background thread that checks which replicas may be read.

A replica is out of use while it doesn't answer, isn't a standby, has another system identifier or
timeline than the primary, or lags by more than the limit. It is used again after it has caught up.
This process's clock measures the lag: the time since the primary had the replica's position.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, TypedDict

from ..homes import lag_seconds, primary, replicas
from .lines import replica_sockets
from .probe import Probe
from .wal import PRIMARY, REPLICA, Wal

logger = logging.getLogger(__name__)

PROBE_EVERY_SECONDS: Final = 0.2
ANSWER_WITHIN_SECONDS: Final = 0.5  # how long a frozen server delays the other probes
START_AGAIN_SECONDS: Final = 1.0  # after the thread couldn't be started
DISCONNECT_AFTER: Final = 2  # unanswered probes in a row; load can delay one probe

NOT_PROBED: Final = "it hasn't been probed yet"


@dataclass(slots=True)
class Replica:
    """The state of one replica. Requests don't read the replica before its first probe."""

    alias: str
    healthy: bool = False
    why: str = NOT_PROBED
    lsn: int = 0  # replayed, at the last probe
    lag_bytes: int | None = None
    # The LSN after a failed wait: no request waits again until the replica's LSN changes.
    stalled_at: int | None = None
    unanswered: int = 0  # probes in a row
    _goal: tuple[int, float] | None = None  # a past position of the primary, and its time

    def judge(
        self, origin: Wal | None, seen: Wal | None, *, now: float, budget_seconds: float
    ) -> None:
        """Evaluate one probe. `origin` is the primary's last known position, read before `seen`;
        `now` is in monotonic seconds."""
        self.unanswered = self.unanswered + 1 if seen is None else 0
        if seen is None or origin is None or (fault := _fault(origin, seen)):
            self._goal = self.lag_bytes = None
            if seen is None or origin is None:
                fault = "it doesn't answer" if seen is None else "the primary hasn't answered yet"
            self.eject(fault)
            return
        self.lsn, self.lag_bytes = seen.lsn, max(0, origin.lsn - seen.lsn)
        goal, since = self._goal or (origin.lsn, now)
        waited = now - since
        if seen.lsn >= goal:
            self._goal = None if seen.lsn >= origin.lsn else (origin.lsn, now)
            if waited <= budget_seconds:
                self._readmit()
            return
        self._goal = (goal, since)
        if waited > budget_seconds:
            self.eject(f"it is {self.lag_bytes} bytes and {waited:.1f} s behind")

    def eject(self, why: str) -> None:
        if self.healthy:
            logger.warning("replica %s is out: %s", self.alias, why)
        self.healthy, self.why = False, why

    def _readmit(self) -> None:
        if self.why and self.why != NOT_PROBED:
            logger.warning("replica %s is in use again", self.alias)
        self.healthy, self.why = True, ""


def _fault(origin: Wal, seen: Wal) -> str:
    if seen.system != origin.system:
        return "it belongs to another cluster"
    if not seen.in_recovery:
        return "it is no longer a standby"
    if seen.timeline != origin.timeline:
        return f"it is on timeline {seen.timeline}, the primary on {origin.timeline}"
    return ""


@dataclass(slots=True)
class Group:
    """A service's replicas, and the last known position of its primary."""

    service: str
    replicas: tuple[Replica, ...]
    origin: Wal | None = None

    def probe(self, probes: "Probes") -> None:
        """Probe all servers. While the primary doesn't answer, replicas that answer stay in use."""
        self.origin = probes.ask(primary(self.service), PRIMARY) or self.origin
        for replica in self.replicas:
            seen = probes.ask(replica.alias, REPLICA)
            replica.judge(
                self.origin,
                seen,
                now=time.monotonic(),
                budget_seconds=lag_seconds(),
            )
            if replica.unanswered >= DISCONNECT_AFTER:
                replica_sockets.disconnect(replica.alias)

    def candidates(self, lsn: int) -> list[Replica]:
        """The healthy replicas in random order; replicas that had reached `lsn` come first."""
        healthy = [replica for replica in self.replicas if replica.healthy]
        random.shuffle(healthy)
        return sorted(healthy, key=lambda replica: replica.lsn < lsn)


@dataclass(slots=True)
class Probes:
    """The probe connections of one thread, separate from Django's connections."""

    _open: dict[str, Probe] = field(default_factory=dict)

    def ask(self, alias: str, statement: str) -> Wal | None:
        probe = self._open.setdefault(alias, Probe(alias))
        return probe.ask(statement, within_seconds=ANSWER_WITHIN_SECONDS)

    def close(self) -> None:
        for probe in self._open.values():
            probe.close()


class Watch:
    """The thread that probes the replicas for this process. It starts at the first read that can
    use a replica, so each forked worker has its own thread, and most commands have none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, Group] = {}
        self._thread: threading.Thread | None = None
        self._start_at = 0.0
        self._stopping = threading.Event()

    def group(self, service: str) -> Group | None:
        """Return the service's group, or None if the service has no replicas."""
        if service not in replicas():
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
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            if time.monotonic() < self._start_at:
                return
            self._groups = {service: group_of(service) for service in replicas()}
            self._stopping = threading.Event()
            thread = threading.Thread(
                target=_probe_repeatedly,
                args=(tuple(self._groups.values()), self._stopping),
                name=f"replica-watch-{os.getpid()}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as exc:  # the system allows no more threads, or Python exits
                logger.warning("no replica is used: they can't be probed: %s", exc)
                self._start_at = time.monotonic() + START_AGAIN_SECONDS
            else:
                self._thread = thread


def _probe_repeatedly(groups: Iterable[Group], stopping: threading.Event) -> None:
    with closing(Probes()) as probes:
        while True:
            for group in groups:
                _probe(group, probes)
            if stopping.wait(PROBE_EVERY_SECONDS):
                return


def _probe(group: Group, probes: Probes) -> None:
    """Probe the group. An unexpected error takes its replicas out of use and doesn't end the
    thread: their last state would stay in use, although no probe checks it."""
    try:
        group.probe(probes)
    except Exception as exc:  # noqa: BLE001 - the next probe may succeed after any error
        for replica in group.replicas:
            replica.eject(f"its probe failed: {exc!r}")


def group_of(service: str) -> Group:
    aliases = replicas().get(service, ())
    return Group(service=service, replicas=tuple(map(Replica, aliases)))


class ReplicaReport(TypedDict):
    """The state of one replica. `lag_bytes` is None if the replica can't be used, and `why` says
    why it isn't used."""

    name: str
    lag_bytes: int | None
    healthy: bool
    why: str


def replica_report(service: str) -> list[ReplicaReport]:
    """Return the current state of each replica. A healthy replica reaches the position that the
    primary had at the start of the call, within PLACEMENT_REPLICA_LAG_SECONDS."""
    group = group_of(service)
    if not group.replicas:
        return []
    deadline = time.monotonic() + lag_seconds()
    lags: dict[str, int | None] = {}
    with closing(Probes()) as probes:
        while True:
            group.probe(probes)
            for replica in group.replicas:
                lags.setdefault(replica.alias, replica.lag_bytes)
            catching_up = any(not r.healthy and r.lag_bytes is not None for r in group.replicas)
            if not catching_up or time.monotonic() > deadline:
                break
            time.sleep(0.02)
    return [
        {
            "name": replica.alias,
            "lag_bytes": lags[replica.alias],
            "healthy": replica.healthy,
            "why": replica.why,
        }
        for replica in group.replicas
    ]


watch = Watch()
