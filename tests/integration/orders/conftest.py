import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from django.db import connections, router
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from orders.domain.commands import PlaceOrder
from orders.domain.lines import Line
from orders.domain.order import Order
from orders.handlers import place_order
from orders.models import OutboxEvent
from outbox.testing import deliver, recorded

LINES = (
    Line(sku="tea", quantity=2, unit_price=Decimal("4.50")),
    Line(sku="pot", quantity=1, unit_price=Decimal("31.00")),
)
ADA, BOB = UUID(int=0xADA), UUID(int=0xB0B)
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)

Place: TypeAlias = Callable[..., Order]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A refused command rolls back its transaction, so no test may run in a transaction.
    for item in items:
        if "integration/orders" in item.path.as_posix():
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


@pytest.fixture
def place() -> Place:
    """Places orders through the handler."""

    def make(*, user_id: UUID = ADA, lines: tuple[Line, ...] = LINES) -> Order:
        return place_order(PlaceOrder(order_id=uuid7(), user_id=user_id, lines=lines))

    return make


@pytest.fixture
def ada_api(as_user: Callable[..., APIClient]) -> APIClient:
    return as_user(ADA)


@pytest.fixture
def bob_api(as_user: Callable[..., APIClient]) -> APIClient:
    return as_user(BOB)


@pytest.fixture
def staff_api(as_user: Callable[..., APIClient]) -> APIClient:
    return as_user(UUID(int=0x57AFF), staff=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give handlers a clock that starts at noon UTC and advances one second per reading."""
    seconds = count()
    ticking = SimpleNamespace(now=lambda: NOON + timedelta(seconds=next(seconds)))
    monkeypatch.setattr("orders.handlers.timezone", ticking)


def waits_for_a_lock() -> bool:
    """Whether any session of this database waits for a lock."""
    with connections[router.db_for_write(OutboxEvent)].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def project() -> None:
    """Deliver every announced event to the order view."""
    for envelope in recorded(OutboxEvent):
        deliver(envelope, consumer="order_view")


def announced() -> list[str]:
    """The facts of all public events so far: "placed", "confirmed" …"""
    return [envelope.type.split(".")[2] for envelope in recorded(OutboxEvent)]


class Threads:
    """Runs functions in threads, and closes the database connections of each thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=16)

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        def run() -> Any:
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        return self._pool.submit(run)

    def together(self, *functions: Callable[[], Any]) -> list[Any]:
        """Start all functions together. Returns results or exceptions, in the same order."""
        barrier = threading.Barrier(len(functions), timeout=10)

        def run(function: Callable[[], Any]) -> Any:
            barrier.wait()
            return function()

        futures = [self.start(run, function) for function in functions]
        return [future.exception(timeout=30) or future.result() for future in futures]

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def threads() -> Any:
    pool = Threads()
    yield pool
    pool.close()
