"""Causes the faults of processes and servers while a process is at its crash point."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from uuid import uuid4

import psycopg2

from tests.faults.matrix.cells import Role
from tests.faults.matrix.gate import Arrival
from tests.faults.matrix.scene import Scene
from tests.support.freezing import frozen

HOUR_MS = 3_600_000

Strike = Callable[[Scene, Arrival], AbstractContextManager[None]]

# Faults after which the process at the point can't continue.
DEADLY = {"exit", "kill-both"}
BACK_MS, ON_MS = -HOUR_MS, 24 * HOUR_MS


def _kill_both(scene: Scene, arrival: Arrival) -> AbstractContextManager[None]:
    for role in {Role.RELAY, Role.CONSUMER, scene.cell.role}:
        scene.kill(role)
    for role in {Role.RELAY, Role.CONSUMER} - {scene.cell.role}:
        scene.start(role)
    return nullcontext()


def _kill_other(scene: Scene, arrival: Arrival) -> AbstractContextManager[None]:
    other = Role.CONSUMER if scene.cell.role is Role.RELAY else Role.RELAY
    scene.kill(other)
    scene.start(other)
    return nullcontext()


@contextmanager
def _frozen(scene: Scene, arrival: Arrival) -> Iterator[None]:
    role = scene.cell.role
    with frozen([arrival.pid]):
        scene.say(f"{arrival.pid} is frozen")
        substitutes = [scene.start(role)] if role in (Role.RELAY, Role.CONSUMER) else []
        scene.taken_over()
        yield
    scene.say(f"{arrival.pid} continues")
    if role is Role.RELAY:
        # The substitute holds the lock. The resumed relay needs the lock to reach its point.
        scene.taken_over()
        for substitute in substitutes:
            scene.kill_one(role, substitute)


def _simply(act: Callable[[Scene], object]) -> Strike:
    def strike(scene: Scene, arrival: Arrival) -> AbstractContextManager[None]:
        act(scene)
        return nullcontext()

    return strike


STRIKES: dict[str, Strike] = {
    "exit": _simply(lambda _: None),
    "kill-both": _kill_both,
    "kill-other": _kill_other,
    "frozen": _frozen,
    "reply-lost": _simply(lambda scene: scene.stage.proxy.drop_answers()),
    "cut": _simply(lambda scene: scene.stage.proxy.cut()),
    "flushall": _simply(lambda scene: scene.stage.redis.flushall()),
    "aof-tail": _simply(lambda scene: scene.stage.lose_streams_tail(scene.chance)),
    "pg-stop": _simply(lambda scene: scene.stage.stop_postgres_at_once()),
    "terminated": _simply(lambda scene: scene.stage.terminate_backends()),
    "held": _simply(lambda _: None),
    "clock": _simply(lambda _: None),
}


@contextmanager
def held_open(scene: Scene) -> Iterator[Callable[[], None]]:
    """Opens a transaction that records an event. Yields the transaction's commit function."""
    if scene.cell.fault != "held":
        yield lambda: None
        return
    event = str(uuid4())
    with closing(psycopg2.connect(scene.stage.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_outboxevent (partition, body) VALUES (0, %s)", [_envelope(event)]
        )
        cursor.execute(
            "INSERT INTO shop_journal (event, key, sequence, amount) VALUES (%s, 'held', 1, 0)",
            [event],
        )
        scene.say("a transaction is held open")
        yield connection.commit
        scene.say("the held transaction is committed")


def _envelope(event: str) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event,
            "source": "/shop",
            "type": "shop.money.moved.v1",
            "subject": "held",
            "time": "2026-01-01T00:00:00Z",
            "partitionkey": "held",
            "sequence": 1,
            "data": {"amount": 0},
        }
    )
