"""Runs in a process of its own, with the environment of accounts: changes users by the real
handler at a steady pace, whether or not anybody keeps up (an open loop)."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.benchmarks.clock import pause

THREADS = 4


def main(question: dict[str, Any]) -> dict[str, float]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    number = int(question["per_second"] * question["seconds"])
    interval = 1 / question["per_second"]
    slots, late = count(), [0.0] * number
    threads = [
        threading.Thread(target=_write, args=(question["users"], slots, late, interval, began))
        for began in [time.perf_counter() + 0.5]
        for _ in range(THREADS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "recorded": number,
        "per_second": number / (time.perf_counter() - began - 0.5),
        "late_p99_ms": sorted(late)[int(number * 0.99)] * 1000,
    }


def _write(
    users: list[str], slots: Iterator[int], late: list[float], interval: float, began: float
) -> None:
    from uuid import UUID

    from django.db import connection

    from accounts.domain.commands import UpdateUser
    from accounts.handlers import update_user

    connection.ensure_connection()
    for slot in slots:
        if slot >= len(late):
            break
        due = began + slot * interval
        if (early := due - time.perf_counter()) > 0:
            pause(early)
        late[slot] = max(time.perf_counter() - due, 0.0)
        update_user(
            UpdateUser(
                user_id=UUID(users[slot * 7919 % len(users)]),
                expected_version=None,
                by_staff=True,
                name=f"Customer in slot {slot} since {began}",
            )
        )
    connection.close()


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
