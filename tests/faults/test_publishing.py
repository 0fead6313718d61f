"""Publishes events while relays are killed and frozen and the stream server loses all data."""

import random
import signal
import subprocess

import pytest

from tests.faults.project import Project
from tests.support.waiting import eventually

SEED = 20261123
EVENTS = 6_500
KILLS, FREEZES, FLUSHES = 10, 16, 16
ROWS_BETWEEN_FAULTS = 90
CHUNK_ROWS = 50  # a transaction of 120 rows has several chunks, and faults happen between chunks


class Schedule:
    """Causes a fixed number of faults for two relays, each after a number of commits."""

    def __init__(self, project: Project, *relay_options: str) -> None:
        self._project = project
        self._options = relay_options
        self._chance = random.Random(SEED)  # noqa: S311
        self._relays = [self._relay(), self._relay()]

    def run(self, writers: subprocess.Popen[bytes]) -> None:
        faults = [
            *[self._kill] * KILLS,
            *[self._freeze] * FREEZES,
            *[self._flush] * FLUSHES,
            self._delete_one_stream,
        ]
        self._chance.shuffle(faults)
        for fault in faults:
            self._let_commit(writers)
            fault(writers)

    def _relay(self) -> subprocess.Popen[bytes]:
        return self._project.spawn(
            "relay_in_chunks", "shop", "--shared", "--rows", str(CHUNK_ROWS), *self._options
        )

    def _let_commit(self, writers: subprocess.Popen[bytes]) -> None:
        goal = self._project.count("outboxevent") + ROWS_BETWEEN_FAULTS
        eventually(
            lambda: writers.poll() is not None or self._project.count("outboxevent") >= goal,
            within_seconds=120,  # the first time, all processes start
            what="the writers commit more rows",
        )

    def _kill(self, writers: subprocess.Popen[bytes]) -> None:
        victim = self._relays.pop(0)
        victim.kill()
        victim.wait()
        self._relays.append(self._relay())

    def _freeze(self, writers: subprocess.Popen[bytes]) -> None:
        victim = self._chance.choice(self._relays)
        victim.send_signal(signal.SIGSTOP)
        self._let_commit(writers)
        if self._chance.random() < 0.5:
            self._flush(writers)
            self._let_commit(writers)
        victim.send_signal(signal.SIGCONT)

    def _flush(self, writers: subprocess.Popen[bytes]) -> None:
        self._project.redis.flushall()

    def _delete_one_stream(self, writers: subprocess.Popen[bytes]) -> None:
        self._project.redis.delete("{shop}:events:3")


def run_schedule(project: Project, *relay_options: str) -> None:
    writers = project.spawn(
        "load",
        *("--events", str(EVENTS), "--seconds", "300", "--seed", str(SEED)),
        *("--sizes", "1", "1", "120"),
    )
    consumer = project.spawn("outbox", "consume")
    Schedule(project, *relay_options).run(writers)
    project.finish(writers, within_seconds=310)
    project.settle(within_seconds=200)
    project.end(consumer)


@pytest.mark.timeout(750)
def test_two_relays_lose_repeat_and_reorder_nothing_across_crashes(project: Project) -> None:
    run_schedule(project)
    verdict = project.verdict()
    assert verdict.committed >= EVENTS * 0.9
    assert verdict.faultless, verdict


@pytest.mark.full
@pytest.mark.timeout(750)
def test_without_the_scripts_comparison_the_schedule_fails(project: Project) -> None:
    run_schedule(project, "--without-compare")
    assert not project.verdict().faultless
