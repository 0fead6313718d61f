"""Freezes, kills, restarts and adds nodes of the cache ring while users are read. Measures how
slow the reads become, and for how long."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from placement.ring import arrangement as ring
from tests.benchmarks.clock import pause, wait_until
from tests.benchmarks.end_to_end import REGISTER
from tests.benchmarks.figures import percentile, until_calm
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale

NODES = 3
PROCESSES, READERS = 2, 4  # READERS is the number of reading threads of each process
USERS = 100
READS_PER_SECOND, WRITES_PER_SECOND = 100, 10  # per thread
WINDOW_SECONDS = 0.2  # a p99 is computed for each window
VIEW = "{ring}:view"
CHANGED_SECONDS = 60.0


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns the p99 of reads on an undisturbed ring and after each event."""
    progress.begin("ring_events", steps=6)
    environment = ground.need_application()["accounts"]
    ground.servers.start(standby=False, ring=NODES + 1)
    ground.redis.delete(VIEW)
    users = [row[0] for row in ground.query(REGISTER, USERS, dsn=ground.application_dsn)]
    urls = ground.servers.addresses.ring_urls
    readers = [_reader(ground, environment, urls[:NODES], users, n) for n in range(PROCESSES)]
    try:
        _wait_ready(readers)
        pause(scale.warm_seconds)
        progress.step("a calm ring")
        calm = (time.monotonic(), scale.event_seconds)
        pause(scale.event_seconds)
        events = _make_events(ground, environment | {"CACHE_URLS": ",".join(urls)}, scale, progress)
        reports = [_report(process) for process in readers]
    finally:
        ground.end(*readers)
        ground.redis.delete(VIEW)
        ground.query("TRUNCATE accounts.accounts_user CASCADE", dsn=ground.application_dsn)
    return {
        "readers": PROCESSES * READERS,
        "users": USERS,
        "failed_reads": sum(one["failed"] for one in reports),
        "older_reads": sum(one["older"] for one in reports),
        **_judged([tuple(read) for one in reports for read in one["reads"]], calm, events),
    }


def _reader(
    ground: Ground,
    environment: dict[str, str],
    urls: tuple[str, ...],
    users: list[str],
    number: int,
) -> subprocess.Popen[Any]:
    question = {
        "users": users,
        "readers": READERS,
        "reads_per_second": READS_PER_SECOND,
        "writes_per_second": 0 if number else WRITES_PER_SECOND,
    }
    return ground.spawn(
        f"ring-reader-{number}",
        environment | {"CACHE_URLS": ",".join(urls)},
        *("-m", f"{__package__}.ring_readers", json.dumps(question)),
        piped=True,
    )


def _wait_ready(readers: list[subprocess.Popen[Any]]) -> None:
    for reader in readers:
        assert reader.stdout
        if reader.stdout.readline() != "ready\n":
            raise RuntimeError("a reader of the ring failed; see its log")


def _report(reader: subprocess.Popen[Any]) -> dict[str, Any]:
    text, _ = reader.communicate()
    found: dict[str, Any] = json.loads(text)
    return found


def _make_events(
    ground: Ground, all_nodes: dict[str, str], scale: Scale, progress: Progress
) -> dict[str, tuple[float, float]]:
    """Causes each event. Returns its start (monotonic seconds) and the seconds until the next."""
    one, other, _, added = ground.servers.ring
    events: dict[str, tuple[float, float]] = {}

    def note(name: str) -> None:
        events[name] = (time.monotonic(), scale.event_seconds)
        pause(scale.event_seconds)

    progress.step("a node is frozen")
    assert one.pid
    os.kill(one.pid, signal.SIGSTOP)
    try:
        note("a node is frozen")
        _wait_until(ground, one.port, up=False)
    finally:
        os.kill(one.pid, signal.SIGCONT)
    progress.step("the frozen node continues")
    _wait_until(ground, one.port, up=True)
    note("the node is in use again")
    progress.step("a node is killed")
    other.kill()
    note("a node is killed")
    _wait_until(ground, other.port, up=False)
    progress.step("the killed node is started again")
    other.start()
    _wait_until(ground, other.port, up=True)
    note("the empty node is in use again")
    progress.step("a node is added")
    ground.run("ring-joiner", all_nodes, "manage.py", "ring", "nodes")
    _wait_until(ground, added.port, up=True)
    note("a node is added")
    return events


def _wait_until(ground: Ground, port: int, *, up: bool) -> None:
    def is_so() -> bool:
        now = time.time_ns() // 1_000_000
        members = ring.decode(ground.redis.get(VIEW).decode(), now=now).members
        return any(f":{port}/" in name and member.is_up is up for name, member in members.items())

    wait_until(
        is_so,
        look_every_seconds=0.01,
        within_seconds=CHANGED_SECONDS,
        what=f"node {port} is {'in' if up else 'out'}",
    )


def _judged(
    reads: list[tuple[float, float]],
    calm: tuple[float, float],
    events: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    before = _windows(reads, *calm)
    results = []
    for name, (start, seconds) in events.items():
        found = _windows(reads, start, seconds)
        windows = until_calm(found, at_most=max(before))
        results.append(
            {
                "event": name,
                "worst_p99_ms": round(max(found), 2),
                "p99_ms": [round(each, 2) for each in found],
                "back_ms": None if windows is None else round(windows * WINDOW_SECONDS * 1000),
            }
        )
    return {
        "reads": len(reads),
        "calm_p99_ms": round(max(before), 2),
        "window_ms": round(WINDOW_SECONDS * 1000),
        "events": results,
    }


def _windows(reads: list[tuple[float, float]], start: float, seconds: float) -> list[float]:
    """Returns the p99 (ms) of the reads that started in each window, or 0 without reads."""
    number = max(round(seconds / WINDOW_SECONDS), 1)
    took: list[list[float]] = [[] for _ in range(number)]
    for at, ms in reads:
        if 0 <= at - start < number * WINDOW_SECONDS:
            took[int((at - start) / WINDOW_SECONDS)].append(ms)
    return [percentile(each, 99) if each else 0.0 for each in took]
