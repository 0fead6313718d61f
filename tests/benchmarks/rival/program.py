"""Appends events with several writers, then replays all events, in the library's environment.

Each append does the same as `orders.event_store.append` for a new order: one aggregate with one
event, in its own transaction.
"""

import json
import multiprocessing
import os
import sys
import time
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

PAGE = 2000


class Order(Aggregate):
    @event("Placed")
    def __init__(self, user_id: UUID, lines: list[dict[str, Any]]) -> None:
        self.user_id = user_id
        self.lines = lines


class Rival(Application):
    """The library names the table after this class: rival_events."""


def append(barrier: Any, counts: Any, number: int, seconds: float) -> None:
    application = Rival()
    line = {"sku": "apple", "quantity": 3, "unit_price": str(Decimal("0.50"))}
    for _ in range(5):  # warm up
        application.save(Order(uuid4(), [line]))
    barrier.wait()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        application.save(Order(uuid4(), [line]))
        counts[number] += 1
    application.close()


def replay() -> float:
    application = Rival()
    started, number, start = time.perf_counter(), 0, 1
    orders: dict[UUID, Any] = {}
    while page := application.recorder.select_notifications(start, PAGE):
        for notification in page:
            happened = application.mapper.to_domain_event(notification)
            orders[happened.originator_id] = happened.mutate(orders.get(happened.originator_id))
        number += len(page)
        start = page[-1].id + 1
    took = time.perf_counter() - started
    application.close()
    return number / took


def main(writers: int, seconds: float) -> dict[str, float]:
    Rival().close()  # creates the tables
    os.environ["CREATE_TABLE"] = "n"  # concurrent writers would conflict as they create tables
    # Spawned, not forked: the library's threads don't run in a forked process.
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(writers, timeout=120), context.Array("l", writers)
    children = [
        context.Process(target=append, args=(barrier, counts, number, seconds))
        for number in range(writers)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise SystemExit("a writer failed")
    return {"appends_per_second": sum(counts) / seconds, "replay_events_per_second": replay()}


if __name__ == "__main__":
    json.dump(main(int(sys.argv[1]), float(sys.argv[2])), sys.stdout)
