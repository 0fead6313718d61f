"""Changes users at a steady rate, in a separate process with the environment of accounts,
also while the consumers are slower (an open loop).

Each change is a transaction of one statement for the row and its event, prepared before the
measurement starts. Such a change takes little CPU from the measured processes, which share the
cores with the writer. The measured latency starts at the commit, so the shortcut doesn't change it.
`write_overhead` measures a handler.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.clock import pause
from tests.benchmarks.machine import busy_seconds

THREADS = 4  # each thread has its own users
PREPARE = """
PREPARE change (text, int, timestamptz, uuid, int, smallint, text) AS
WITH changed AS (
    UPDATE accounts_user SET name = $1, version = $2, updated_at = $3
     WHERE id = $4 AND version = $5 RETURNING id
)
INSERT INTO accounts_outboxevent (partition, body) SELECT $6, $7 FROM changed
"""
CHANGE = "EXECUTE change (%s, %s, %s, %s, %s, %s, %s)"


def main(question: dict[str, Any]) -> dict[str, float]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    number = int(question["per_second"] * question["seconds"])
    interval = 1 / question["per_second"]
    slots = [range(thread, number, THREADS) for thread in range(THREADS)]
    changes = [_changes(each, thread) for thread, each in enumerate(slots)]
    busy, began = busy_seconds(), time.perf_counter() + 0.5
    with ThreadPoolExecutor(THREADS) as pool:
        writing = [
            pool.submit(_write, each, made, interval, began)
            for each, made in zip(slots, changes, strict=True)
        ]
        late = sorted(seconds for each in writing for seconds in each.result())
    busy, passed = busy_seconds() - busy, time.perf_counter() - began
    return {
        "recorded": number,
        "per_second": number / passed,
        "cores_busy": busy / passed,
        "late_p99_ms": late[int(number * 0.99)] * 1000,
    }


def _write(slots: range, changes: list[list[Any]], interval: float, began: float) -> list[float]:
    """Writes each slot's change. Returns for each change how many seconds late it was."""
    from django.db import connection

    from outbox.streams import nudge

    late = []
    with connection.cursor() as cursor:
        cursor.execute(PREPARE)
        for slot, values in zip(slots, changes, strict=True):
            if (early := began + slot * interval - time.perf_counter()) > 0:
                pause(early)
            late.append(max(time.perf_counter() - began - slot * interval, 0.0))
            cursor.execute(CHANGE, values)
            if cursor.rowcount != 1:
                raise RuntimeError(f"user {values[3]} was changed by another process")
            nudge("accounts")
    connection.close()
    return late


def _changes(slots: range, thread: int) -> list[list[Any]]:
    """Returns the parameters of `CHANGE` for each slot, for the thread's own users in turn."""
    users, changes = list(_users(thread)), []
    for turn, slot in enumerate(slots):
        user = turn % len(users)
        users[user], values = _changed(users[user], f"Customer in slot {slot}")
        changes.append(values)
    return changes


def _users(thread: int) -> Iterator[Any]:
    from accounts.models import User

    for number, row in enumerate(User.objects.exclude(name="Administrator").order_by("id")):
        if number % THREADS == thread:
            yield row.state()


def _changed(user: Any, name: str) -> tuple[Any, list[Any]]:
    """Returns the user's next version, and the parameters of `CHANGE` that store this version."""
    from dataclasses import replace

    from django.utils import timezone

    from accounts.domain.events import UserUpdated
    from accounts.published import envelope
    from outbox.recorder import row_of

    after = replace(user, name=name, version=user.version + 1, updated_at=timezone.now())
    event = envelope(UserUpdated(user=after, changed=("name",)))
    row = [after.name, after.version, after.updated_at, after.id, user.version]
    return after, [*row, *row_of(event)]


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
