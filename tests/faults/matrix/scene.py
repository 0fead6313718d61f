"""Starts, kills, replaces and waits for the processes of one cell."""

import random
import threading
import time
from collections import defaultdict
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.faults.matrix import child
from tests.faults.matrix.cells import Cell, Role
from tests.faults.matrix.gate import DIED, Arrival, Gate
from tests.faults.matrix.history import is_read, is_settled
from tests.faults.matrix.stage import Stage
from tests.support.waiting import eventually

EVENTS = 260
MORE_EVENTS = 60  # repeated while the point isn't reached
ITEMS = 8
SIZES = ("2", "2", "4", "60")  # the last size makes several chunks and several batches
ARRIVES_WITHIN_SECONDS = 40.0
SETTLES_WITHIN_SECONDS = 40.0
ENDS_WITHIN_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.02  # not more often, since each query slows down the cell's processes
HITS = 4  # the process stops at the point at one of its first four visits
POISONED = 0.1

COMMANDS = {
    Role.RELAY: ("outbox", "relay", "shop"),
    Role.CONSUMER: ("outbox", "consume"),
    Role.RETRIER: ("outbox", "parked", "retry"),
    Role.PRUNER: ("outbox", "prune", "shop"),
}


class Unfinished(Exception):
    """An expected step of a cell did not happen in time."""


class Scene:
    """One cell while it runs. Every wait has a time limit."""

    def __init__(
        self, stage: Stage, cell: Cell, *, seed: int, folder: Path, without: str = ""
    ) -> None:
        self.stage = stage
        self.cell = cell
        self.chance = random.Random(f"{seed}/{cell.name}")  # noqa: S311
        self.gate = Gate()
        self.log = folder / "processes.log"
        self.steps: list[str] = []
        self._without = without
        self._started = time.monotonic()
        self._running: dict[Role, list[ForkServerProcess]] = defaultdict(list)

    def say(self, text: str) -> None:
        self.steps.append(f"{time.monotonic() - self._started:7.3f}  {text}")

    # Processes.

    def start(
        self, role: Role, *, planted: bool = False, clock_ms: int = 0, events: int = EVENTS
    ) -> ForkServerProcess:
        command = COMMANDS.get(role) or self._load(events)
        hits = HITS if role in (Role.WRITER, Role.RELAY, Role.CONSUMER) else 1
        process = child.start(
            child.Order(
                command=command,
                environment=self.stage.environment,
                log=self.log,
                gate_port=self.gate.port,
                point=self.cell.point if planted else "",
                hit=self.chance.randint(1, hits),
                clock_ms=clock_ms,
                without=self._without,
            )
        )
        self._running[role].append(process)
        self.say(f"{role} {process.pid} starts{', planted' if planted else ''}")
        return process

    def kill(self, role: Role) -> None:
        for process in self._running[role][:]:
            self.kill_one(role, process)

    def kill_one(self, role: Role, process: ForkServerProcess) -> None:
        process.kill()
        process.join()
        self._running[role].remove(process)
        self.say(f"{role} {process.pid} is killed")

    def is_running(self, role: Role) -> bool:
        """Whether any process of the role is running. Removes ended processes from the list."""
        for process in self._running[role][:]:
            if process.is_alive():
                continue
            self._running[role].remove(process)
            self.say(f"{role} {process.pid} ended with {process.exitcode}")
            if role in (Role.RELAY, Role.CONSUMER) and process.exitcode != DIED:
                raise Unfinished(f"the {role} ended unexpectedly with {process.exitcode}")
        return bool(self._running[role])

    def end(self) -> None:
        for role in list(self._running):
            self.kill(role)
        self.gate.close()

    def run_to_its_end(self, role: Role) -> int:
        process = self.start(role)
        process.join(SETTLES_WITHIN_SECONDS)
        if process.exitcode is None:
            raise Unfinished(f"the {role} doesn't end")
        self._running[role].remove(process)
        self.say(f"{role} {process.pid} ended with {process.exitcode}")
        return process.exitcode

    def _load(self, events: int) -> tuple[str, ...]:
        poison = POISONED if self.cell.point in ("parking", "retry") else 0
        return (
            *("load", "--transfers", "--events", str(events), "--items", str(ITEMS)),
            *("--seconds", "30", "--seed", str(self.chance.getrandbits(30))),
            *("--sizes", *SIZES, "--poison", str(poison), "--aborts", "0.05"),
        )

    # Waiting.

    def arrival(self) -> Arrival:
        """Waits until the process reaches its crash point. Restarts a process that ends earlier."""
        deadline = time.monotonic() + ARRIVES_WITHIN_SECONDS
        role = self.cell.role
        while not (found := self.gate.arrival(within_seconds=0.05)):
            if time.monotonic() > deadline:
                raise Unfinished(f"no {role} reached {self.cell.point}")
            if role in (Role.RETRIER, Role.PRUNER) and not self.is_running(role):
                self.start(role, planted=True)
            if not self.is_running(Role.WRITER):
                self.start(Role.WRITER, planted=role is Role.WRITER, events=MORE_EVENTS)
            self.is_running(role)
        self.say(f"{role} {found.pid} is at {self.cell.point}")
        return found

    def gone(self, pid: int) -> None:
        """Waits until a process has died at its point."""
        for processes in self._running.values():
            for process in processes[:]:
                if process.pid == pid:
                    process.join(ENDS_WITHIN_SECONDS)
                    self.say(f"{process.pid} died with {process.exitcode}")
                    processes.remove(process)
                    if process.exitcode != DIED:
                        raise Unfinished(f"{process.name} died with {process.exitcode}")

    def written(self) -> None:
        """Waits until the writers have ended."""
        self._until(lambda: not self.is_running(Role.WRITER), what="the writers end")

    def taken_over(self) -> None:
        """Waits until other processes have taken over the work of a frozen process."""
        (goal,) = self.stage.ask("SELECT count(*) FROM shop_journal")[0]
        if self.cell.role in (Role.RETRIER, Role.PRUNER):
            counted, goal = "shop_journal", goal + MORE_EVENTS // 2
        else:
            counted = "(SELECT id FROM shop_applied UNION ALL SELECT id FROM shop_parkedevent) done"
        self._until(lambda: self._has_reached(counted, goal), what="other processes take over")
        self.say("other processes have taken over")

    def _has_reached(self, counted: str, goal: int) -> bool:
        if not self.is_running(Role.WRITER):
            self.start(Role.WRITER, events=MORE_EVENTS)
        return bool(self.stage.ask(f"SELECT count(*) FROM {counted}")[0][0] >= goal)  # noqa: S608

    def write_more(self) -> None:
        """Gives more work to the surviving processes, to show stale state in their memory."""
        self._until(self._all_are_members, what="every consumer's lease is renewed")
        self.start(Role.WRITER, events=MORE_EVENTS)
        self.written()

    def _all_are_members(self) -> bool:
        alive = len(self._running[Role.CONSUMER])
        return bool(self.stage.redis.zcard("{shop.ledger}:members") == alive)

    def read(self) -> None:
        """Waits until the consumer has read all entries published so far."""
        self._until(lambda: is_read(self.stage), what="all published events are read")

    def settle(self) -> None:
        """Waits until all events are published and read."""
        self._until(lambda: is_settled(self.stage), what="all events are published and read")
        self.say("settled")

    def _until(self, condition, *, what: str) -> None:
        never = threading.Event()

        def look() -> bool:
            never.wait(LOOK_EVERY_SECONDS)
            self.is_running(Role.RELAY)
            self.is_running(Role.CONSUMER)
            return bool(condition())

        try:
            eventually(look, within_seconds=SETTLES_WITHIN_SECONDS, what=what)
        except AssertionError as exc:
            raise Unfinished(str(exc)) from exc
