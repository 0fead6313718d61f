"""Runs handlers in threads, each with its own connection, and controls which commits first."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connections, router, transaction

from accounts.models import User
from tests.support.waiting import eventually

T = TypeVar("T")
U = TypeVar("U")
DEADLINE_SECONDS = 10.0


def together(*actions: Callable[[], T]) -> list[T | Exception]:
    """Run each action in a thread; all start together. Returns the results or exceptions."""
    barrier = threading.Barrier(len(actions), timeout=DEADLINE_SECONDS)

    def run(action: Callable[[], T]) -> T | Exception:
        connections[alias()].ensure_connection()
        barrier.wait()
        return outcome(action)

    with ThreadPoolExecutor(len(actions)) as pool:
        return [
            future.result(DEADLINE_SECONDS)
            for future in [pool.submit(_closing, run, action) for action in actions]
        ]


def outcome(action: Callable[[], T]) -> T | Exception:
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - returned as a result
        return error


def in_turn(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Run `first` without its commit, start `second`, and commit `first` when `second` waits
    for a lock of `first`. Returns both results; fails if `second` never waits."""
    done, may_commit = threading.Event(), threading.Event()

    def run() -> T:
        with transaction.atomic(using=alias()):
            result = first()
            done.set()
            assert may_commit.wait(DEADLINE_SECONDS)
        return result

    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(_closing, run)
        try:
            assert done.wait(DEADLINE_SECONDS) or ahead.result(0)
            behind = pool.submit(_closing, second)
            eventually(
                _is_a_lock_awaited, within_seconds=DEADLINE_SECONDS, what="a wait for a lock"
            )
        finally:
            may_commit.set()
        return ahead.result(DEADLINE_SECONDS), behind.result(DEADLINE_SECONDS)


def alias() -> str:
    return router.db_for_write(User)


def _closing(action: Callable[..., T], *args: Any) -> T:
    try:
        return action(*args)
    finally:
        connections.close_all()


def _is_a_lock_awaited() -> bool:
    with connections[alias()].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])
