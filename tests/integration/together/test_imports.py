"""Customers and orders of another Django project are imported with `dumpdata`'s files."""

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password, make_password
from django.core.management import CommandError, call_command

from accounts.models import OutboxEvent as AccountsEvent
from accounts.models import Reservation, User
from orders import queries
from orders.domain.order import Status
from orders.event_store import load
from orders.models import OrderDeadline, OutboxEvent, StoredEvent
from outbox.testing import deliver, recorded
from placement.dumps import uuid_of

PASSWORD = "tea-at-four-in-Bern"
ADA, AT = 7, "2026-11-29T03:10:18.109Z"
CUSTOMER = {
    "name": "Ada",
    "email": "ada@example.com",
    "password": make_password(PASSWORD),
    "credit_limit": "100.00",
    "joined_at": AT,
    "last_login": None,
}


def customer(**fields: Any) -> dict[str, Any]:
    return {"model": "customers.customer", "pk": ADA, "fields": CUSTOMER | fields}


def order(key: int, status: str, price: str, **fields: Any) -> dict[str, Any]:
    lines = [{"sku": "tea", "quantity": 2, "unit_price": price}]
    whole = {"customer": ADA, "lines": lines, "total": str(2 * Decimal(price)), "status": status}
    times = {"placed_at": AT, "updated_at": AT}
    return {"model": "shop.order", "pk": key, "fields": whole | times | fields}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def run(command: str, *rows: Any) -> str:
        file, out = tmp_path / "dump.json", io.StringIO()
        file.write_text(json.dumps(rows), encoding="utf-8")
        call_command(command, str(file), stdout=out)
        return out.getvalue()

    return run


def test_imported_orders_hold_exactly_the_credit_of_the_active_ones(run: Any) -> None:
    # The cancelled order, which comes first, needs the whole limit.
    rows = [
        order(1, "CANCELLED", "50.00"),
        order(2, "CONFIRMED", "30.00"),
        order(3, "REJECTED", "99.00"),
        order(4, "PENDING", "20.00"),
    ]
    for _ in range(2):  # a repeated import changes nothing
        run("import_users", customer())
        printed = run("import_orders", *rows)
    assert printed == "0 orders imported, 4 were imported before\n"
    for envelope in recorded(OutboxEvent):
        deliver(envelope, consumer="credit")
    for envelope in recorded(AccountsEvent):
        deliver(envelope, consumer="saga")

    user = User.objects.get(pk=uuid_of(ADA))
    assert user.credit_reserved == Decimal("100.00")
    held = Reservation.objects.filter(status="RESERVED").values_list("order_id", "amount")
    assert dict(held) == {uuid_of(2): Decimal("60.00"), uuid_of(4): Decimal("40.00")}
    states = queries.states([uuid_of(key) for key in (1, 2, 3, 4)])
    assert [states[uuid_of(key)][1] for key in (1, 2, 3, 4)] == [
        Status.CANCELLED,
        Status.CONFIRMED,
        Status.REJECTED,
        Status.CONFIRMED,
    ]
    assert [type(event).__name__ for event in load(uuid_of(2))] == ["OrderPlaced", "OrderConfirmed"]
    assert not OrderDeadline.objects.exists()


def test_an_imported_user_keeps_password_and_date_and_gets_an_event(run: Any) -> None:
    run("import_users", customer())
    user = User.objects.get()
    assert check_password(PASSWORD, user.password)
    assert user.created_at.isoformat() == "2026-11-29T03:10:18.109000+00:00"
    assert [event.type for event in recorded(AccountsEvent)] == ["accounts.user.registered.v1"]


@pytest.mark.parametrize(
    ("command", "row", "message"),
    [
        ("import_users", customer(password="plain"), "row 7: .* isn't a hash"),
        ("import_users", customer(email="nobody"), "row 7: .*valid email"),
        ("import_users", customer(credit_limit=None), "row 7: .*credit_limit"),
        ("import_users", customer() | {"pk": 0}, "the key 0"),
        ("import_users", order(1, "PENDING", "1.00"), "no row of customers.customer"),
        ("import_users", "no row", "expected the JSON of dumpdata"),
        ("import_orders", order(1, "PENDING", "1.00", total="3.00"), "row 1: the total is 3.00"),
        ("import_orders", order(1, "EXPIRED", "1.00"), "row 1: .*EXPIRED can't be imported"),
        ("import_orders", order(1, "LOST", "1.00"), "row 1: .*LOST"),
        ("import_orders", order(1, "PENDING", "0.00"), "row 1: Line 1: unit_price"),
        ("import_orders", order(1, "PENDING", "1.00", customer=-1), "row 1: the key -1"),
    ],
)
def test_a_row_that_cannot_be_imported_is_named(
    run: Any, command: str, row: Any, message: str
) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        run(command, row)
    assert "\n" not in str(caught.value)
    assert not User.objects.exists()
    assert not StoredEvent.objects.exists()


def test_a_file_that_cannot_be_read_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_users", str(tmp_path / "absent.json"))


def test_an_address_of_another_user_is_refused_and_the_import_can_continue(run: Any) -> None:
    run("import_users", customer())
    second = customer(email="ADA@example.com") | {"pk": 8}
    with pytest.raises(CommandError, match="row 8: Another user has this"):
        run("import_users", customer(), second)
    second["fields"]["email"] = "eve@example.com"
    assert run("import_users", customer(), second) == "1 users imported, 1 were imported before\n"
