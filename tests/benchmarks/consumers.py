"""Measures how fast a consumer applies events: single, in batches, and with a classic inbox."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from outbox.streams import order
from tests.benchmarks import backlog
from tests.benchmarks.clock import pause, wait_until
from tests.benchmarks.figures import by_turns, middle, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale

MEMBERS = f"{{{{{backlog.LABEL}.{{consumer}}}}}}:members"
SETTLE_SECONDS = 1.0  # a few heartbeats: then the two processes know each other
LOOK_EVERY_SECONDS = 0.02
LONG_SECONDS = 300.0
POSITIONS = "SELECT partition, entry FROM ledger_position WHERE consumer = '{consumer}'"
HANDLED = "SELECT count(*) FROM ledger_handled"


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns events a second for each kind. Real `consume` processes read a waiting backlog."""
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
    measures = {name: _with_progress(progress, name, way) for name, way in ways.items()}
    measured = by_turns(rounds, **measures)
    backlog.empty(ground)
    found = {name: middle(values) for name, values in measured.items()}
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
        "rounds": {name: [round(value) for value in values] for name, values in measured.items()},
    }


def _with_progress(progress: Progress, name: str, way: Callable[[], float]) -> Callable[[], float]:
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
    """Returns events a second, from the time when stopped processes resume until all positions are
    at the end."""
    backlog.empty(ground)
    environment = ground.need_project()
    running = [
        ground.spawn(
            "consumer", environment, "-m", "django", "outbox", "consume", "--consumer", consumer
        )
        for _ in range(processes)
    ]
    with _asking(ground, POSITIONS.format(consumer=consumer)) as positions:

        def ready() -> bool:
            members = ground.redis.zcard(MEMBERS.format(consumer=consumer))
            return len(positions()) == backlog.PARTITIONS and members >= processes

        try:
            _wait(ready)
            if processes > 1:
                pause(SETTLE_SECONDS)
            return _time(
                ground, running, events, until=lambda ends: _passed(dict(positions()), ends)
            )
        finally:
            ground.end(*running)


def _passed(positions: dict[int, str], ends: dict[int, str]) -> bool:
    """Whether all positions are at the end. A position may be past its entry, at the tick's end."""
    return all(order(positions[partition]) >= order(end) for partition, end in ends.items())


def _classic(ground: Ground, events: int) -> float:
    backlog.empty(ground)
    log = ground.root / "log" / "classic.log"
    before = log.read_text().count("consuming") if log.exists() else 0
    process = ground.spawn("classic", ground.need_project(), "-m", "django", "consume_classic")
    with _asking(ground, HANDLED) as handled:
        try:
            _wait(lambda: log.read_text().count("consuming") > before)
            return _time(ground, [process], events, until=lambda _: handled() == [(events,)])
        finally:
            ground.end(process)


def _time(
    ground: Ground,
    processes: list[subprocess.Popen[Any]],
    events: int,
    *,
    until: Callable[[dict[int, str]], bool],
) -> float:
    """Returns events a second: stops the processes, adds entries, and resumes the processes."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    ends = backlog.add_entries(ground, events)
    ground.calm()
    started = time.perf_counter()
    for process in processes:
        os.kill(process.pid, signal.SIGCONT)
    _wait(lambda: until(ends))
    return events / (time.perf_counter() - started)


@contextmanager
def _asking(ground: Ground, statement: str) -> Iterator[Callable[[], list[tuple[Any, ...]]]]:
    """Yields a function that runs this statement over one connection."""
    with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def ask() -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return list(cursor.fetchall())

        yield ask


def _wait(condition: Callable[[], bool]) -> None:
    wait_until(
        condition,
        look_every_seconds=LOOK_EVERY_SECONDS,
        within_seconds=LONG_SECONDS,
        what="consumer done",
    )
