import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from django.db import connections
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from orders.domain.commands import PlaceOrder
from orders.domain.lines import Line
from orders.domain.order import Order
from orders.handlers import place_order
from orders.models import OutboxEvent
from outbox.testing import deliver, published

LINES = (
    Line(sku="tea", quantity=2, unit_price=Decimal("4.50")),
    Line(sku="pot", quantity=1, unit_price=Decimal("31.00")),
)
ADA, BOB = UUID(int=0xADA), UUID(int=0xB0B)

Place: TypeAlias = Callable[..., Order]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Handlers refuse by raising out of their transaction, which a test's own would not survive.
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


def project() -> None:
    """Let the order view read all that orders announced."""
    for envelope in published(OutboxEvent):
        deliver(envelope, consumer="order_view")


def told() -> list[str]:
    """The public events so far: "placed", "confirmed" …"""
    return [envelope.type.split(".")[2] for envelope in published(OutboxEvent)]


class Threads:
    """Functions in threads with their own database connections, closed at the end."""

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
        """Start all at a barrier; the results, or the errors, in the same order."""
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
