"""Runs in a process of its own, with the environment of accounts: changes users and records it at
a steady pace, whether or not anybody keeps up (an open loop).

One transaction a change, by the real recorder; but the change is one statement, and not the
handler's: what is measured begins at the commit, and shares its two cores with whoever commits.
What a whole handler costs is another figure (`write_overhead`)."""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from tests.benchmarks.clock import pause

THREADS = 4
FIELDS = (
    *("id", "name", "email", "is_staff", "credit_limit", "credit_reserved", "is_active"),
    *("version", "created_at", "updated_at"),
)
CHANGE = f"""
UPDATE accounts_user SET name = %s, version = version + 1, updated_at = clock_timestamp()
 WHERE id = %s RETURNING {", ".join(FIELDS)}
"""  # noqa: S608


def main(question: dict[str, Any]) -> dict[str, float]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    number = int(question["per_second"] * question["seconds"])
    interval = 1 / question["per_second"]
    slots, late = count(), [0.0] * number
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for writing in [
            pool.submit(_write, question["users"], slots, late, interval, began + 0.5)
            for _ in range(THREADS)
        ]:
            writing.result()
    return {
        "recorded": number,
        "per_second": number / (time.perf_counter() - began - 0.5),
        "late_p99_ms": sorted(late)[int(number * 0.99)] * 1000,
    }


def _write(
    users: list[str], slots: Iterator[int], late: list[float], interval: float, began: float
) -> None:
    from django.db import connection

    connection.ensure_connection()
    for slot in slots:
        if slot >= len(late):
            break
        due = began + slot * interval
        if (early := due - time.perf_counter()) > 0:
            pause(early)
        late[slot] = max(time.perf_counter() - due, 0.0)
        _change(users[slot * 7919 % len(users)], f"Customer in slot {slot} since {began}")
    connection.close()


def _change(user: str, name: str) -> None:
    from django.db import connection, transaction

    from accounts.domain.events import UserUpdated
    from accounts.domain.state import UserState
    from accounts.models import OutboxEvent
    from accounts.published import envelope
    from outbox.recorder import record

    with transaction.atomic(savepoint=False):
        with connection.cursor() as cursor:
            cursor.execute(CHANGE, [name, user])
            state = UserState(**dict(zip(FIELDS, cursor.fetchone(), strict=True)))
        record(envelope(UserUpdated(user=state, changed=("name",))), into=OutboxEvent)


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
