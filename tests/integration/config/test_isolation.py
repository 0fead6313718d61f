"""Requests work at any default isolation level of the role of the service."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from rest_framework.test import APIClient

from placement.router import primaries
from stack.servers import Postgres

pytestmark = [
    pytest.mark.shape("orders"),
    pytest.mark.django_db(transaction=True, databases=primaries()),
]
AT_ONCE = 8
LINE = {"sku": "tea", "quantity": 2, "unit_price": "4.50"}


@pytest.fixture
def serializable(postgres: Postgres) -> Iterator[None]:
    """The default of each role in this test's database is SERIALIZABLE."""
    homes = [
        (each["USER"], each["NAME"]) for each in (connections.settings[a] for a in primaries())
    ]
    for role, database in homes:
        postgres.query(
            f'ALTER ROLE {role} IN DATABASE "{database}" '
            "SET default_transaction_isolation = 'serializable'"
        )
    connections.close_all()
    yield
    for role, database in homes:
        postgres.query(
            f'ALTER ROLE {role} IN DATABASE "{database}" RESET default_transaction_isolation'
        )
    connections.close_all()


def test_concurrent_requests_succeed_at_any_default_of_the_role(
    serializable: None, as_user: Callable[..., Any]
) -> None:
    for alias in primaries():
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("read committed",)
    start = Barrier(AT_ONCE)

    def place(number: int) -> list[int]:
        client: APIClient = as_user(UUID(int=1))
        start.wait(10)
        try:
            return [
                client.post(
                    "/api/orders/",
                    {"lines": [LINE]},
                    headers={"Idempotency-Key": f"{number}-{turn}"},
                ).status_code
                for turn in range(4)
            ]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = [status for found in pool.map(place, range(AT_ONCE)) for status in found]
    assert statuses == [201] * (4 * AT_ONCE)
