"""Runs in a process of its own, with the environment of accounts: changes users and records it at
a steady pace, whether or not anybody keeps up (an open loop).

Each change is a transaction of one statement, the row and its event. That is the leanest writer
there can be: what is measured begins at its commit, and shares two cores with it. What a handler
costs is another figure (`write_overhead`).
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.clock import pause

THREADS = 4  # of whom each has its own users
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
    began = time.perf_counter() + 0.5
    with ThreadPoolExecutor(THREADS) as pool:
        writing = [
            pool.submit(_write, range(thread, number, THREADS), interval, began)
            for thread in range(THREADS)
        ]
        late = sorted(seconds for each in writing for seconds in each.result())
    return {
        "recorded": number,
        "per_second": number / (time.perf_counter() - began),
        "late_p99_ms": late[int(number * 0.99)] * 1000,
    }


def _write(slots: range, interval: float, began: float) -> list[float]:
    """How late each slot's change began."""
    from django.db import connection

    from outbox.streams import nudge

    users = list(_users(slots.start))
    late = []
    with connection.cursor() as cursor:
        cursor.execute(PREPARE)
        for turn, slot in enumerate(slots):
            if (early := began + slot * interval - time.perf_counter()) > 0:
                pause(early)
            late.append(max(time.perf_counter() - began - slot * interval, 0.0))
            user = turn % len(users)
            users[user], values = _changed(users[user], f"Customer in slot {slot}")
            cursor.execute(CHANGE, values)
            if cursor.rowcount != 1:
                raise RuntimeError(f"somebody else has changed {users[user].id}")
            nudge("accounts")
    connection.close()
    return late


def _users(thread: int) -> Iterator[Any]:
    from accounts.models import User

    for number, row in enumerate(User.objects.exclude(name="Administrator").order_by("id")):
        if number % THREADS == thread:
            yield row.state()


def _changed(user: Any, name: str) -> tuple[Any, list[Any]]:
    """The user's next version, and what `CHANGE` is given to make it."""
    from dataclasses import replace

    from django.utils import timezone

    from accounts.domain.events import UserUpdated
    from accounts.published import envelope
    from outbox.partitions import partition_count, partition_of

    after = replace(user, name=name, version=user.version + 1, updated_at=timezone.now())
    event = envelope(UserUpdated(user=after, changed=("name",)))
    partition = partition_of(event.partitionkey, partitions=partition_count())
    row = [after.name, after.version, after.updated_at, after.id, user.version]
    return after, [*row, partition, event.encode()]


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
