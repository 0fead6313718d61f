"""Places or reads orders at a steady rate, in a separate process with the environment of orders,
until standard input ends. Then the process prints the results."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.benchmarks.figures import percentile


def main(question: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    if question["do"] == "write":
        return at_pace(place_one(), ended, per_second=question["per_second"], name="writes")
    return at_pace(read_one(), ended, per_second=question["per_second"], name="reads")


def at_pace(
    work: Callable[[], str], ended: threading.Event, *, per_second: int, name: str
) -> dict[str, Any]:
    """Returns the number of calls by result, and the longest and p99 duration of a call."""
    results: dict[str, int] = {}
    took: list[float] = []
    due = time.perf_counter()
    while True:
        started = time.perf_counter()
        result = work()
        took.append(time.perf_counter() - started)
        results[result] = results.get(result, 0) + 1
        due = max(due + 1 / per_second, time.perf_counter() - 1.0)
        if ended.wait(max(due - time.perf_counter(), 0.0)):
            break
    return {
        name: len(took),
        f"failed_{name}": results.get("failed", 0),
        **({"empty_reads": results.get("empty", 0)} if name == "reads" else {}),
        f"{name}_p99_ms": round(percentile(sorted(took), 99) * 1000, 1),
        f"{name}_max_ms": round(max(took) * 1000, 1),
    }


def place_one() -> Callable[[], str]:
    from django.db import Error
    from uuid_utils.compat import uuid7

    from orders import handlers
    from orders.domain.commands import PlaceOrder
    from orders.domain.lines import Line

    lines = (Line(sku="apple", quantity=3, unit_price=Decimal("0.50")),)

    def work() -> str:
        try:
            handlers.place_order(PlaceOrder(order_id=uuid7(), user_id=uuid7(), lines=lines))
        except Error:
            return "failed"
        return "done"

    return work


def read_one() -> Callable[[], str]:
    """Reads a user's newest orders as the API does. Every user in the history has orders."""
    import random
    from uuid import UUID

    from django.db import Error

    from orders import queries

    def work() -> str:
        user = UUID(int=random.randrange(10))  # noqa: S311
        try:
            found = list(queries.orders(of_user=user).order_by("-id")[:50])
        except Error:
            return "failed"
        return "done" if found else "empty"

    return work


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
