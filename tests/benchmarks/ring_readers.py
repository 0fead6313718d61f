"""Runs threads in a separate process with the environment of accounts. They read users through
the cache ring at a steady rate, and one thread changes users, until the input ends. Prints
`ready` when every user has been read, and the results at the end."""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def main(question: dict[str, Any]) -> dict[str, Any]:
    """Returns the results. `reads` has each read's start (monotonic seconds) and duration (ms)."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    noted = Noted(question["users"])
    noted.warm()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    works = [noted.read] * question["readers"]
    paces = [1 / question["reads_per_second"]] * question["readers"]
    if question["writes_per_second"]:
        works.append(noted.write)
        paces.append(1 / question["writes_per_second"])
    threads = [
        threading.Thread(target=repeat, args=(work, ended, pace))
        for work, pace in zip(works, paces, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"reads": noted.reads, "failed": noted.failed, "older": noted.older}


def repeat(work: Callable[[], None], ended: threading.Event, pace: float) -> None:
    """Calls `work` every `pace` seconds. Calls that are missed during a delay are dropped."""
    from django.db import connections

    due = time.monotonic()
    while not ended.wait(max(due - time.monotonic(), 0)):
        due = max(due, time.monotonic() - pace) + pace
        work()
    connections.close_all()


class Noted:
    """Reads and changes users, and counts the results of the reads of this process."""

    def __init__(self, users: list[str]) -> None:
        from uuid import UUID

        self.users = [UUID(user) for user in users]
        self.newest = dict.fromkeys(self.users, 0)  # the highest version read in this process
        self.reads: list[tuple[float, float]] = []
        self.failed = self.older = 0

    def warm(self) -> None:
        from accounts import queries

        for user in self.users:
            self.newest[user] = queries.user(user).version

    def read(self) -> None:
        from accounts import queries

        user = random.choice(self.users)  # noqa: S311 - not a secret
        least, began = self.newest[user], time.monotonic()
        try:
            version = queries.user(user).version
        except Exception:  # noqa: BLE001 - any error would fail a request
            self.failed += 1
            return
        self.reads.append((began, (time.monotonic() - began) * 1000))
        self.older += version < least
        self.newest[user] = max(version, self.newest[user])

    def write(self) -> None:
        from accounts.domain.commands import UpdateUser
        from accounts.handlers import update_user

        update_user(
            UpdateUser(
                user_id=random.choice(self.users),  # noqa: S311 - not a secret
                expected_version=None,
                by_staff=True,
                name=f"Customer since {time.monotonic()}",
            )
        )


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
