"""A rebuild makes of the stored events exactly what is shown, beside those who read and write."""

import random
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, router, transaction
from uuid_utils.compat import uuid7

from orders import handlers
from orders.domain.commands import CancelOrder, ConfirmOrder, RejectOrder
from orders.models import (
    CountedOrder,
    OrderView,
    OutboxEvent,
    Position,
    Sales,
    State,
    StoredEvent,
    Subscription,
)
from outbox import projection, retention, tables
from outbox.rebuilding import Rebuild
from outbox.streams import WHOLE, Streams

from .conftest import ADA, BOB, Place, Threads
from .moving import NAMES, moving, publish, reader, settle, shown, wait_until_applied


@pytest.fixture(autouse=True)
def _no_shadows() -> Iterator[None]:
    """The flush between tests knows nothing of them."""
    yield
    for model in (OrderView, Sales, CountedOrder):
        for suffix in ("_next", "_old"):
            execute(f"DROP TABLE IF EXISTS {model._meta.db_table}{suffix}")


def execute(sql: str) -> None:
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        cursor.execute(sql)


def rebuild(name: str, *options: str) -> str:
    told = StringIO()
    call_command("rebuild", name, *options, stdout=told)
    return told.getvalue()


def some_history(place: Place, number: int = 12) -> list[UUID]:
    """Orders in every state."""
    placed = [place(user_id=random.choice([ADA, BOB])).id for _ in range(number)]
    for turn, order_id in enumerate(placed):
        if turn % 4 == 1:
            handlers.reject_order(RejectOrder(order_id=order_id, reason="insufficient_credit"))
        elif turn % 4:
            handlers.confirm_order(ConfirmOrder(order_id=order_id))
        if turn % 4 == 3:
            handlers.cancel_order(CancelOrder(order_id=order_id))
    return placed


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuild_shows_what_was_shown(place: Place, streams: Streams, name: str) -> None:
    some_history(place)
    settle(streams)
    before = shown()
    assert f"{name} is rebuilt" in rebuild(name)
    assert shown() == before
