"""Starts and stops consumers under load. Measures which partitions move, and the pauses."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

import pytest

from outbox.consuming.assignment import SLACK
from outbox.partitions import partition_of
from tests.faults.project import Project
from tests.support.waiting import eventually

PARTITIONS = 16
ITEMS = 200  # enough that the partitions have about equal numbers of items
SEED = 20261123
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
COMMITS_PAUSE_SECONDS = 0.02
CALM_EFFECTS = 4  # a change is complete after this many effects in every partition
# The longest pauses of a partition, with --full. Without it, other tests may run: they delay each
# step, and also renewals, so that the lease of a live consumer can expire.
CLEAN_PAUSE_SECONDS = 1.0  # after its reader stopped cleanly
KILLED_PAUSE_SECONDS = 5.0  # after its reader was killed: the lease must expire first
FROZEN_PAUSE_SECONDS = 10.0  # a reader frozen inside a transaction holds positions for longer
BUSY_PAUSE_SECONDS = 20.0  # after each of these, if other tests may run


@dataclass(frozen=True, slots=True)
class Effect:
    """One applied event: the process that applied it, and the seconds since it was recorded."""

    process: str
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """One join or leave: the moved partitions, and the longest wait of an event per partition."""

    moved: set[int]
    pauses: list[float]

    @property
    def longest_pause(self) -> float:
        return max(self.pauses)


class Crew:
    """Consumer processes of one service, observed through the events that they apply."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.members = [project.spawn("outbox", "consume") for _ in range(4)]
        self.wait_for(4)

    def wait_for(self, number: int) -> None:
        eventually(
            lambda: self._project.redis.zcard("{shop.ledger}:members") == number,
            within_seconds=120,  # on a busy machine
            what=f"{number} consumers are alive",
        )
        self._calm()

    @contextmanager
    def change(self, *, to: int) -> Iterator[list[Change]]:
        """Yields a list. After the block, waits until `to` processes run and all partitions are
        read again, and appends the block's change to the list."""
        before = self._readers()
        since = self._now()
        found: list[Change] = []
        yield found
        self.wait_for(to)
        after = self._readers()
        moved = {p for p in range(PARTITIONS) if before[p] != after[p]}
        effects = self._effects(since)
        pauses = [max(effect.waited_seconds for effect in effects[p]) for p in moved]
        found.append(Change(moved, pauses))

    def _now(self) -> datetime:
        found: datetime = self._project.ask("SELECT clock_timestamp()")[0][0]
        return found

    def _calm(self) -> None:
        """Waits until the consumers apply events of every partition."""
        since = self._now()
        never = threading.Event()

        def flow() -> bool:
            never.wait(0.1)  # the query is expensive
            effects = self._effects(since)
            return all(len(effects[partition]) >= CALM_EFFECTS for partition in range(PARTITIONS))

        eventually(flow, within_seconds=120, what="events of every partition are applied")

    def _effects(self, since: datetime = LONG_AGO) -> dict[int, list[Effect]]:
        """Returns the effects of events recorded since this time, by partition and in order."""
        effects: dict[int, list[Effect]] = {p: [] for p in range(PARTITIONS)}
        rows = self._project.postgres.query(
            "SELECT key, process, extract(epoch FROM at - recorded)::float "
            "FROM shop_applied WHERE recorded >= %s ORDER BY id",
            since,
        )
        for key, process, waited in rows:
            effects[partition_of(key, partitions=PARTITIONS)].append(Effect(process, waited))
        return effects

    def _readers(self) -> dict[int, str]:
        return {partition: effects[-1].process for partition, effects in self._effects().items()}


def bound(members: int) -> int:
    """Returns how many partitions may move, as in tests/unit/outbox/test_assignment.py."""
    return 2 * ceil(SLACK * PARTITIONS / members)


@pytest.mark.shape("accounts", "orders")  # the example project is the same in every shape
@pytest.mark.long
@pytest.mark.timeout(600)
def test_consumers_that_join_leave_freeze_or_die_lose_and_reorder_nothing(
    project: Project, request: pytest.FixtureRequest
) -> None:
    is_alone = request.config.getoption("--full")
    relay = project.spawn("outbox", "relay", "shop")
    writers = project.spawn(
        "load",
        *("--events", "1000000", "--seconds", "600", "--seed", str(SEED), "--transfers"),
        *("--items", str(ITEMS), "--sizes", "2", "--pause", str(COMMITS_PAUSE_SECONDS)),
    )
    crew = Crew(project)
    first, second, *others = crew.members

    with crew.change(to=3) as killed:
        first.kill()
    with crew.change(to=4) as added:
        others.append(project.spawn("outbox", "consume"))
    with crew.change(to=3) as frozen:
        second.send_signal(signal.SIGSTOP)
    with crew.change(to=4) as thawed:
        second.send_signal(signal.SIGCONT)
    with crew.change(to=3) as dismissed:
        project.end(second)

    writers.send_signal(signal.SIGTERM)
    writers.wait(60)
    project.settle(within_seconds=120)
    for process in (*others, relay):
        project.end(process)
    verdict = project.verdict()
    assert verdict.committed > 1000
    assert verdict.faultless, verdict
    assert balances(project, "item") == balances(project, "balance")

    pauses = {
        CLEAN_PAUSE_SECONDS: (added, thawed, dismissed),
        KILLED_PAUSE_SECONDS: (killed,),
        FROZEN_PAUSE_SECONDS: (frozen,),
    }
    for seconds, changes in pauses.items():
        for (change,) in changes:
            assert change.moved
            if is_alone:
                assert len(change.moved) <= bound(4)
                assert change.longest_pause < seconds
            else:
                assert change.longest_pause < BUSY_PAUSE_SECONDS


KILL = """
import ctypes, sys, threading
from django.core.management import call_command

def is_reading(thread):
    frame = sys._current_frames().get(thread.ident)
    while frame and frame.f_code.co_name != "step":
        frame = frame.f_back
    return frame and thread.name == "ledger of shop"

def kill_the_reader():
    never = threading.Event()
    while not (found := [t for t in threading.enumerate() if is_reading(t)]):
        never.wait(0.01)
    identity = ctypes.c_ulong(found[0].ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(SystemExit))

threading.Thread(target=kill_the_reader).start()
call_command("outbox", "consume")
"""


@pytest.mark.shape("accounts", "orders")
@pytest.mark.long
def test_a_killed_thread_ends_its_process_and_the_other_process_takes_over(
    project: Project,
) -> None:
    members = "{shop.ledger}:members"
    other = project.spawn("outbox", "consume")
    eventually(
        lambda: project.redis.zcard(members) == 1, within_seconds=120, what="a consumer runs"
    )
    killed = project.spawn("shell", "--no-imports", "--command", KILL)
    assert killed.wait(120) == 1
    # No wait: without a release, both are members until the lease expires.
    assert project.redis.zcard(members) <= 1, "the lease wasn't released before the process ended"
    assert other.poll() is None


def balances(project: Project, table: str) -> dict[str, int]:
    statements = {
        "item": "SELECT id::text, balance FROM shop_item WHERE version > 0",
        "balance": "SELECT key, amount FROM shop_balance",
    }
    found = dict(project.ask(statements[table]))
    assert sum(found.values()) == 0
    return found
