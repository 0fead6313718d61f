"""Measures how fast the relay's Celery task publishes a backlog. The limit is pipelined XADDs."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import redis
from celery import Celery

from tests.benchmarks import backlog
from tests.benchmarks.clock import wait_until
from tests.benchmarks.figures import by_turns, middle, ratio
from tests.benchmarks.ground import PROJECT, Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.project import ENDED, STARTED
from tests.benchmarks.scale import Scale
from tests.support.waiting import eventually

LOOK_EVERY_SECONDS = 0.004
LONG_SECONDS = 120.0
END_RELAYS = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"


def measure(ground: Ground, scale: Scale, progress: Progress) -> list[dict[str, Any]]:
    """Returns a figure for each backlog, then two figures for each number of retained rows: without
    and with an open transaction that wrote to the outbox."""
    cases = [(rows, 0, False) for rows in scale.backlogs]
    cases += [
        (scale.growth_backlog, rows, held) for rows in scale.retained for held in (False, True)
    ]
    progress.begin("relay", steps=len(cases))
    environment = ground.need_project()
    backlog.empty(ground)
    with running_worker(ground, environment) as task:
        found, in_table = [], 0
        for rows, retained, held in cases:
            progress.step(f"{rows:,} rows waiting behind {retained:,}{', one held' * held}")
            if not retained or not found[-1]["retained"]:
                backlog.empty(ground)
                in_table = 0
            if retained > in_table:
                backlog.record(ground, retained - in_table)
                in_table = retained
                ground.query("VACUUM (ANALYZE) ledger_outboxevent", dsn=ground.project_dsn)
            found.append(_case(ground, task, scale, rows=rows, retained=in_table, held=held))
            in_table += rows
    backlog.empty(ground)
    return found


def _case(
    ground: Ground, task: "Task", scale: Scale, *, rows: int, retained: int, held: bool
) -> dict[str, Any]:
    sent = backlog.close_tick(ground)
    with ground.session(ground.project_dsn) as holder:
        if held:
            _write_and_hold(holder)
        backlog.record(ground, rows, rows_per_commit=100)
        measured = by_turns(
            scale.rounds,
            raw=lambda: backlog.raw_per_second(ground, rows, after=sent),
            relay=lambda: task.events_per_second(rows, after=sent),
        )
        holder.rollback()
    per_second, limit = middle(measured["relay"]), middle(measured["raw"])
    return {
        "backlog": rows,
        "retained": retained,
        "held_transaction": held,
        "events_per_second": round(per_second),
        "limit_events_per_second": round(limit),
        "ratio": ratio(per_second, limit),
        "rounds": {name: [round(value) for value in values] for name, values in measured.items()},
    }


def _write_and_hold(holder: Any) -> None:
    with holder.cursor() as cursor:
        cursor.execute("INSERT INTO ledger_outboxevent (partition, body) VALUES (0, '{}')")


class Task:
    """Sends the relay's task to a waiting worker process and measures the task."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._broker: Any = redis.Redis.from_url(ground.broker_url)
        self._celery = Celery(broker=ground.broker_url)
        self._celery.conf.task_ignore_result = True

    def events_per_second(self, rows: int, *, after: backlog.Sent) -> float:
        """Returns events a second from the task's start until the cursor confirms all rows."""
        ground = self._ground
        backlog.rewind(ground, after)
        ground.calm()
        self._broker.delete(ENDED)
        self._celery.send_task("outbox.relay", args=(backlog.LABEL,), queue=backlog.LABEL)
        ended = self._wait_complete(after.tick)
        started = float(self._broker.get(STARTED))
        if (found := backlog.entries(ground)) != rows:
            raise RuntimeError(f"the relay sent {found:,} of {rows:,} rows")
        self.stop()
        return rows / (ended - started)

    def stop(self) -> None:
        """Ends the lingering task: terminates its session, and sends a nudge to wake the task."""
        self._ground.query(END_RELAYS, dsn=self._ground.project_dsn)
        self._ground.redis.rpush(backlog.NUDGE, "go")
        eventually(lambda: self._broker.get(ENDED), within_seconds=30, what="relay ended")
        self._ground.redis.delete(backlog.NUDGE)

    def _wait_complete(self, before: int) -> float:
        """Waits until a tick after `before` is sent completely. Returns the last check's time."""
        seen = 0.0

        def complete() -> bool:
            nonlocal seen
            at, tick = self._ground.redis.hmget(backlog.CURSOR, "at", "complete")
            seen = time.time()
            return int(tick or 0) > before and at == b"%s-%d" % (tick, backlog.WHOLE)

        wait_until(
            complete,
            look_every_seconds=LOOK_EVERY_SECONDS,
            within_seconds=LONG_SECONDS,
            what="backlog sent (see worker.log)",
        )
        return seen

    def close(self) -> None:
        self._celery.close()
        self._broker.close()


@contextmanager
def running_worker(ground: Ground, environment: dict[str, str]) -> Iterator[Task]:
    """Yields the task of a worker that has run the task once. The task queues no successor."""
    lingering = {"BENCH_LINGER_SECONDS": str(LONG_SECONDS)}
    with worker(ground, environment | lingering), closing(Task(ground)) as task:
        sent = backlog.close_tick(ground)
        backlog.record(ground, 100)
        task.events_per_second(100, after=sent)
        yield task


@contextmanager
def worker(ground: Ground, environment: dict[str, str]) -> Iterator[None]:
    """Runs a Celery worker with the same options as the stack's worker."""
    process = ground.spawn(
        "worker",
        environment,
        *("-m", "celery", "--quiet", "--app", f"{PROJECT}.celery", "worker", "--pool", "threads"),
        *("--concurrency", "8", "--queues", backlog.LABEL, "--without-mingle"),
        *("--without-gossip",),
    )
    try:
        yield
    finally:
        ground.end(process)
