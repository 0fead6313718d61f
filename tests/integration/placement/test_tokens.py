"""Consistency tokens in responses: a flushed position, and the xid that recorded an event."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import OutboxEvent, User
from placement.replicas.durability import flush_at_commit
from placement.replicas.tokens import COOKIE, HEADER, Part, parse
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated

pytestmark = pytest.mark.shape("accounts", "orders")

ORDER = {"lines": [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]}


def parts_of(answer: Any) -> Any:
    return parse(answer[HEADER], services=["accounts", "orders"]).parts


def test_a_write_returns_the_position_and_the_xid_of_its_event(ada: Customer) -> None:
    answer = ada.rename("1")
    part = parts_of(answer)["accounts"]

    assert part.xid == OutboxEvent.objects.latest("id").xid
    cookie = answer.cookies[COOKIE]
    assert cookie.value == answer[HEADER]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_reads_and_refused_writes_return_no_token(ada: Customer) -> None:
    stale = ada.api.patch(ada.url, {"name": "x"}, headers={"If-Match": '"7"'})

    assert stale.status_code == 412
    assert HEADER not in stale
    assert HEADER not in ada.api.get("/api/users/")


def test_successive_writes_are_joined_in_one_token(
    ada: Customer, as_user: Callable[..., APIClient]
) -> None:
    first = parts_of(ada.rename("1"))["accounts"]
    order = ada.api.post("/api/orders/", ORDER, headers={"Idempotency-Key": "k"})

    assert parts_of(order)["accounts"] == first
    assert parts_of(order)["orders"].lsn > first.lsn
    again = parts_of(ada.rename("2"))
    assert again["orders"] == parts_of(order)["orders"]
    assert again["accounts"].xid > first.xid


def test_a_write_that_records_no_event_keeps_the_xid_of_the_token(ada: Customer) -> None:
    before = parts_of(ada.rename("1"))["accounts"]
    after = parts_of(ada.rename("1"))["accounts"]

    assert after.xid == before.xid
    assert after.lsn >= before.lsn


def test_a_repeated_order_returns_its_first_xid_and_the_current_position(
    ada: Customer,
) -> None:
    def place() -> Part:
        answer = ada.api.post("/api/orders/", ORDER, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 201
        return parts_of(answer)["orders"]

    first = place()
    ada.rename("1")
    ada.forget()
    second = place()

    assert first.xid is not None
    assert second.xid == first.xid
    assert second.lsn > first.lsn


@pytest.fixture
def role_setting(standby: Replicated) -> Iterator[None]:
    """The role of accounts may change `synchronous_commit`; the test resets the setting."""
    yield
    standby.primary.query("ALTER ROLE accounts RESET synchronous_commit")
    connections["default"].close()


@pytest.mark.parametrize("value", ["off", "remote_write"])
def test_a_write_is_flushed_to_disk_even_if_its_role_disables_the_flush(
    ada: Customer, standby: Replicated, role_setting: None, value: str
) -> None:
    standby.primary.query(f"ALTER ROLE accounts SET synchronous_commit = {value}")
    connections["default"].close()
    ada.rename("1")

    with connections["default"].cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on" if value == "off" else value,)


def test_a_client_reads_the_order_that_it_placed_and_cancelled(ada: Customer) -> None:
    """Reads use the replica of orders; the event store has the events that the view misses."""
    placed = ada.api.post("/api/orders/", ORDER, headers={"Idempotency-Key": "k"}).json()
    url = f"/api/orders/{placed['id']}/"

    assert ada.api.get(url).json()["status"] == "PENDING"
    assert ada.api.post(f"{url}cancel/").status_code == 200
    assert ada.api.get(url).json()["status"] == "CANCELLED"


def test_flush_at_commit_ignores_a_replica(standby: Replicated) -> None:
    replica = connections["default-replica-0"]
    flush_at_commit(connection=replica)  # opens no connection
    assert replica.connection is None
    assert User.objects.using("default").filter(pk=UUID(int=0)).count() == 0


def test_orders_are_listed_from_their_own_replica(ada: Customer, standby: Replicated) -> None:
    standby.in_use("orders")
    home = CaptureQueriesContext(connections["orders"])
    with home as here, CaptureQueriesContext(connections["orders-replica-0"]) as there:
        assert ada.api.get("/api/orders/").status_code == 200

    assert (len(there), len(here)) == (2, 0)
