"""How fast events are applied: one by one, in runs, and in the classic way."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks import backlog
from tests.benchmarks.figures import by_turns, middle, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale
from tests.waiting import eventually

MEMBERS = f"{{{backlog.LABEL}}}:members"
SETTLE_SECONDS = 1.0  # a few heartbeats: two processes have told each other of themselves
LOOK_EVERY_SECONDS = 0.02
LONG_SECONDS = 300.0


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Events a second of each way, by real `consume` processes from a backlog in the streams."""
    ways: dict[str, Callable[[], float]] = {
        "classic": lambda: _classic(ground, scale.classic_events),
        "single": lambda: _consumed(ground, "single", scale.single_events),
        "orm": lambda: _consumed(ground, "orm", scale.classic_events),
        "batch": lambda: _consumed(ground, "batch", scale.batch_events),
        "two": lambda: _consumed(ground, "single", scale.single_events, processes=2),
        "raw": lambda: _raw(ground, scale.batch_events),
    }
    rounds = min(scale.rounds, 3)
    progress.begin("consumer", steps=rounds * len(ways))
    ground.need_project()
    told = {name: _telling(progress, name, way) for name, way in ways.items()}
    rounded = by_turns(rounds, **told)
    backlog.empty(ground)
    found = {name: middle(values) for name, values in rounded.items()}
    return {
        "single_events_per_second": round(found["single"]),
        "batch_events_per_second": round(found["batch"]),
        "classic_events_per_second": round(found["classic"]),
        "orm_events_per_second": round(found["orm"]),
        "two_processes_events_per_second": round(found["two"]),
        "limit_events_per_second": round(found["raw"]),
        "single_to_classic": ratio(found["single"], found["classic"]),
        "batch_to_limit": ratio(found["batch"], found["raw"]),
        "two_processes_to_one": ratio(found["two"], found["single"]),
        "rounds": {name: [round(value) for value in values] for name, values in rounded.items()},
    }


def _telling(progress: Progress, name: str, way: Callable[[], float]) -> Callable[[], float]:
    def measure_it() -> float:
        progress.step(name)
        return way()

    return measure_it


def _raw(ground: Ground, events: int) -> float:
    backlog.empty(ground)
    sent = backlog.close_tick(ground)
    backlog.record(ground, events)
    return backlog.raw_per_second(ground, events, after=sent)


def _consumed(ground: Ground, consumer: str, events: int, *, processes: int = 1) -> float:
    """From the moment that waiting processes are let go until the last position is at its end."""
    backlog.empty(ground)
    environment = ground.need_project()
    running = [
        ground.spawn("consumer", environment, "-m", "django", "consume", "--consumer", consumer)
        for _ in range(processes)
    ]
    try:
        eventually(
            lambda: (
                len(_positions(ground, consumer)) == backlog.PARTITIONS
                and ground.redis.zcard(MEMBERS) >= processes
            ),
            within_seconds=60,
            what="consumers ready",
        )
        time.sleep(SETTLE_SECONDS)
        for process in running:
            os.kill(process.pid, signal.SIGSTOP)
        ends = backlog.lay(ground, events)
        ground.calm()
        began = time.perf_counter()
        for process in running:
            os.kill(process.pid, signal.SIGCONT)
        _wait(lambda: _positions(ground, consumer) == ends)
        return events / (time.perf_counter() - began)
    finally:
        ground.end(*running)


def _positions(ground: Ground, consumer: str) -> dict[int, str]:
    return dict(
        ground.query(
            "SELECT partition, entry FROM ledger_position WHERE consumer = %s",
            consumer,
            dsn=ground.project_dsn,
        )
    )


def _classic(ground: Ground, events: int) -> float:
    backlog.empty(ground)
    process = ground.spawn("classic", ground.need_project(), "-m", "django", "consume_classic")
    log = ground.root / "log" / "classic.log"
    before = log.read_text().count("consuming")
    try:
        eventually(
            lambda: log.read_text().count("consuming") > before,
            within_seconds=60,
            what="classic consumer ready",
        )
        os.kill(process.pid, signal.SIGSTOP)
        backlog.lay(ground, events)
        ground.calm()
        began = time.perf_counter()
        os.kill(process.pid, signal.SIGCONT)
        _wait(lambda: _handled(ground) == events)
        return events / (time.perf_counter() - began)
    finally:
        ground.end(process)


def _handled(ground: Ground) -> int:
    [(number,)] = ground.query("SELECT count(*) FROM ledger_handled", dsn=ground.project_dsn)
    return int(number)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("a consumer didn't finish; see its log")
        time.sleep(LOOK_EVERY_SECONDS)
