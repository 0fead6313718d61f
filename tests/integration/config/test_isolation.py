"""Requests work at any default isolation level of the role of the service."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from rest_framework.test import APIClient

from placement import provision
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
    name = "default_transaction_isolation"
    homes = [
        f'ALTER ROLE {each["USER"]} IN DATABASE "{each["NAME"]}"'
        for each in (connections.settings[alias] for alias in primaries())
    ]
    with provision._session(postgres.dsn) as cursor:
        # The roles are those of all workers: their `provision` resets the settings meanwhile.
        cursor.execute("SELECT pg_advisory_lock(%s)", [provision._LOCK])
        for home in homes:
            cursor.execute(f"{home} SET {name} = 'serializable'")
        connections.close_all()
        yield
        for home in homes:
            cursor.execute(f"{home} RESET {name}")
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
