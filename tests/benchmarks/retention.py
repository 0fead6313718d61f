"""Checks under a steady load that pruning keeps rows, ticks, entries and bytes bounded."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from celery import Celery

from outbox.streams.scripts import NUDGE
from tests.benchmarks import backlog
from tests.benchmarks.clock import pause, wait_until
from tests.benchmarks.figures import ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.progress import Progress
from tests.benchmarks.relay import worker
from tests.benchmarks.scale import Scale
from tests.support.meanwhile import meanwhile

COMMITS_PER_SECOND = 20
CONSUMER = "batch"
LONG_SECONDS = 300.0
FLUSHES_EVERY_SECONDS = 0.05
FLUSHED_BYTES = 8192  # a page of the WAL
FLUSH: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # as PostgreSQL's WAL
MEGABYTE = 1_000_000
TABLES = "ledger_outboxevent", "ledger_tick"
STATEMENTS = "pg_stat_statements"
SIZES = f"""
SELECT (SELECT count(*) FROM ledger_outboxevent), (SELECT count(*) FROM ledger_tick),
       {" + ".join(f"pg_table_size('{table}')" for table in TABLES)},
       {" + ".join(f"pg_indexes_size('{table}')" for table in TABLES)}
"""  # noqa: S608 - constants
DELETES = f"""
SELECT coalesce(max(max_exec_time), 0), coalesce(sum(calls), 0)::bigint FROM {STATEMENTS}
 WHERE query ~* 'DELETE FROM "?ledger_(outboxevent|tick)'
"""  # noqa: S608 - a constant
# Event n is version n / ITEMS + 1 of item n mod ITEMS.
WRONG = f"""
SELECT count(*) FROM generate_series(0, least(%(events)s, {backlog.ITEMS}) - 1) AS item
  LEFT JOIN ledger_shown s ON s.id = lpad(to_hex(item), 32, '0')::uuid
 WHERE s.version IS DISTINCT FROM (%(events)s - 1 - item) / {backlog.ITEMS} + 1
"""  # noqa: S608 - constants
GROWING = ("rows", "ticks", "entries", "table_mb", "index_mb", "streams_mb")


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns samples of the retained data under a steady rate of writes, the duration of the
    DELETE statements, and how many items don't show their last event."""
    per_second, events = scale.retention_per_second, scale.retention_events
    steps = round(events / per_second / scale.retention_look_seconds)
    progress.begin("retention", steps=steps)
    samples: list[dict[str, float]] = []
    with _statements_counted(ground):
        environment = ground.need_project() | {
            "BENCH_RETENTION_SECONDS": str(scale.retention_seconds)
        }
        _reset(ground)
        consumer = ground.spawn(
            "consumer", environment, "-m", "django", "outbox", "consume", "--consumer", CONSUMER
        )
        with (
            worker(ground, environment),
            _beat(ground, scale.prune_seconds),
            _writing(ground, events, per_second) as at,
            _flushing(ground) as flushes,
        ):
            while at.is_writing:
                pause(scale.retention_look_seconds)
                progress.step(f"{at.written:,} of {events:,} events")
                samples.append(_sample(ground, at))
            if at.written == events:  # otherwise the block raises the writer's error
                wait_until(
                    lambda: _wrong(ground, events) == 0,
                    look_every_seconds=0.5,
                    within_seconds=LONG_SECONDS,
                    what="each item is shown as of its last event (see consumer.log)",
                )
            took = time.monotonic() - at.started
        ground.end(consumer)
        [(longest_ms, deletes)] = ground.query(DELETES, dsn=ground.project_dsn)
        wrong = _wrong(ground, events)
        backlog.empty(ground)
    return {
        "events": events,
        "offered_per_second": per_second,
        "applied_per_second": round(events / took),
        "retention_seconds": scale.retention_seconds,
        "rows_that_differ": wrong,
        "longest_delete_ms": round(float(longest_ms), 1),
        "longest_commit_ms": round(at.longest_commit_seconds * 1000, 1),
        "longest_flush_ms": round(max(flushes) * 1000, 1),
        "delete_statements": int(deletes),
        "highest": {name: max(one[name] for one in samples) for name in GROWING},
        "growth": {name: _growth([one[name] for one in samples]) for name in GROWING},
        "samples": samples,
    }


def _growth(values: list[float]) -> float:
    """Returns the highest value of the last third divided by the highest earlier value."""
    cut = max(1, len(values) * 2 // 3)
    return ratio(max(values[cut:] or values), max(values[:cut]))


class _At:
    """The progress of the writer."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.written = 0
        self.longest_commit_seconds = 0.0  # in a session that deletes no rows
        self.is_writing = True


@contextmanager
def _writing(ground: Ground, events: int, per_second: int) -> Iterator[_At]:
    """Commits rows at a steady rate, even if the consumer is behind. Nudges after each commit."""
    at, stopping = _At(), threading.Event()
    step = max(1, per_second // COMMITS_PER_SECOND)

    def write() -> None:
        with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
            for first in range(0, events, step):
                last = min(first + step, events) - 1
                stopping.wait(at.started + first / per_second - time.monotonic())
                if stopping.is_set():
                    return
                cursor.execute(backlog.INSERT, {"first": first, "last": last})
                asked = time.monotonic()
                connection.commit()
                took = time.monotonic() - asked
                at.longest_commit_seconds = max(at.longest_commit_seconds, took)
                ground.redis.eval(NUDGE, 1, backlog.NUDGE)
                at.written = last + 1

    def work() -> None:
        try:
            write()
        finally:
            at.is_writing = False

    with meanwhile(work, end=stopping.set):
        yield at


@contextmanager
def _flushing(ground: Ground) -> Iterator[list[float]]:
    """Yields the seconds that the disk needs to flush a page of a file that PostgreSQL doesn't
    use. No statement that waits for the disk can be faster."""
    file, took, stopping = ground.root / "flushed", [0.0], threading.Event()

    def flush() -> None:
        with file.open("wb", buffering=0) as opened:
            while not stopping.wait(FLUSHES_EVERY_SECONDS):
                opened.seek(0)
                opened.write(os.urandom(FLUSHED_BYTES))
                asked = time.monotonic()
                FLUSH(opened.fileno())
                took.append(time.monotonic() - asked)

    with meanwhile(flush, end=stopping.set):
        yield took


@contextmanager
def _beat(ground: Ground, prune_seconds: float) -> Iterator[None]:
    """Sends tasks as beat does: a relay task each second, and a pruning task periodically."""
    stopping = threading.Event()
    celery = Celery(broker=ground.broker_url)
    celery.conf.task_ignore_result = True

    def send(name: str, every_seconds: float) -> None:
        while True:
            celery.send_task(
                name, args=(backlog.LABEL,), queue=backlog.LABEL, expires=every_seconds
            )
            if stopping.wait(every_seconds):
                return

    works = (
        partial(send, "outbox.relay", 1.0),
        partial(send, "outbox.prune", prune_seconds),
    )
    with closing(celery), meanwhile(*works, end=stopping.set):
        yield


def _reset(ground: Ground) -> None:
    """Deletes all rows, the floor and the subscribers, and turns autovacuum on again."""
    backlog.empty(ground)
    ground.query("TRUNCATE ledger_subscription, ledger_state", dsn=ground.project_dsn)
    for table in ("outboxevent", "shown"):
        ground.query(
            f"ALTER TABLE ledger_{table} RESET (autovacuum_enabled)", dsn=ground.project_dsn
        )
    ground.query(f"SELECT {STATEMENTS}_reset()", dsn=ground.project_dsn)


def _sample(ground: Ground, at: _At) -> dict[str, float]:
    [(rows, ticks, table, index)] = ground.query(SIZES, dsn=ground.project_dsn)
    used: Any = ground.redis.info("memory")
    return {
        "seconds": round(time.monotonic() - at.started, 1),
        "written": at.written,
        "rows": rows,
        "ticks": ticks,
        "entries": backlog.entries(ground),
        "table_mb": round(table / MEGABYTE, 2),
        "index_mb": round(index / MEGABYTE, 2),
        "streams_mb": round(used["used_memory"] / MEGABYTE, 2),
    }


def _wrong(ground: Ground, events: int) -> int:
    with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
        cursor.execute(WRONG, {"events": events})
        return int(cursor.fetchone()[0])


@contextmanager
def _statements_counted(ground: Ground) -> Iterator[None]:
    """Restarts PostgreSQL with pg_stat_statements, and again without it at the end of the block."""
    ground.restart_postgres(shared_preload_libraries=STATEMENTS)
    ground.need_project()
    ground.query(f"CREATE EXTENSION IF NOT EXISTS {STATEMENTS}", dsn=ground.project_dsn)
    try:
        yield
    finally:
        ground.end_processes()
        ground.restart_postgres(shared_preload_libraries=None)
