"""Kills the processes of a stack and stops its stream server while buyers place orders."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from os import kill

import pytest
import redis

from stack.owner import home_of
from stack.runfile import read_run
from tests.faults.buyers import Buyers
from tests.support.freezing import frozen
from tests.support.stacks import RunningStack
from tests.support.waiting import eventually

PATIENCE_SECONDS = 600  # for a machine that runs other tests too; an idle machine needs a minute
KINDS = ("web", "worker", "beat", "consumer")


class Fire:
    """Kills processes of one stack in an order that depends on the seed."""

    def __init__(self, stack: RunningStack, *, kills_each: int, chance: random.Random) -> None:
        self._stack = stack
        found = [name for name in stack.pids() if name.rpartition("-")[2] in KINDS]
        self._victims = found * kills_each
        chance.shuffle(self._victims)
        self.killed: list[tuple[str, int]] = []
        self.streams_url: str = stack.status()["streams"]

    @property
    def kills_left(self) -> int:
        return len(self._victims)

    def kill_one(self) -> None:
        name = self._victims.pop()
        pid = eventually(
            lambda: self._stack.pids().get(name), within_seconds=20, what=f"{name} runs again"
        )
        kill(pid, signal.SIGKILL)
        self.killed.append((name, pid))

    def forget_everything(self) -> None:
        with redis.Redis.from_url(self.streams_url) as client:
            client.flushall()

    def streams_frozen(self) -> AbstractContextManager[None]:
        """Freezes the server. It accepts connections but never answers: the longest delay."""
        return frozen([self._stack.pids()["streams"]])

    @contextmanager
    def streams_down(self) -> Iterator[None]:
        """Kills the server and locks its data folder, so that the supervisor can't restart it."""
        data = home_of(self._stack.root) / "streams" / "data"
        data.chmod(0o000)
        try:
            kill(self._stack.pids()["streams"], signal.SIGKILL)
            yield
            with (
                redis.Redis.from_url(self.streams_url) as client,
                pytest.raises(redis.ConnectionError),
            ):
                client.ping()
        finally:
            data.chmod(0o700)
        eventually(self._streams_answer, within_seconds=30, what="the stream server answers")

    def _streams_answer(self) -> bool:
        try:
            with redis.Redis.from_url(self.streams_url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, within_seconds=PATIENCE_SECONDS, what=f"{what}; {self._stack}")

    def everything_runs(self) -> bool:
        """Whether all processes run, and each killed process runs under a new pid."""
        run = read_run(self._stack.root)
        assert run
        now = {process.name: process for process in run.processes}
        return all(process.state == "running" for process in run.processes) and all(
            now[name].pid != pid for name, pid in self.killed
        )


def burn(buyers: Buyers, fire: Fire, *, orders: int, kills: int) -> None:
    """Lets buyers place `orders` orders, and kills `kills` processes during that time."""
    goal, step = buyers.acknowledged, orders / (kills + 1)
    buyers.go()
    for _ in range(kills):
        goal += step
        fire.wait(lambda goal=goal: buyers.acknowledged >= goal, "buyers place more orders")
        fire.kill_one()
    fire.wait(
        lambda: buyers.acknowledged >= goal + step or not buyers.left, "buyers place more orders"
    )


def has_settled(stack: RunningStack) -> bool:
    with stack.database("orders") as ask:
        if ask("SELECT 1 FROM orders_orderdeadline LIMIT 1"):
            return False
    return all(
        service["outbox"]["unpublished"] == 0
        and all(consumer["lag_events"] == 0 for consumer in service["consumers"].values())
        for service in stack.flow().values()
    )
